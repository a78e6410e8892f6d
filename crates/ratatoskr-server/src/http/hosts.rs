//! [`Hosts`]: by which names the HTTP listener may be asked for.
//!
//! A web page can have its own domain resolve to 127.0.0.1 (DNS rebinding). To the visitor's browser the listener is then of the page's own site:
//! nothing in the request says otherwise but `Host`, which has the page's domain, and no page can change that. An address in it proves that
//! no name was resolved.

use std::net::IpAddr;

/// Names that are ours, beside addresses and `localhost`.
#[derive(Debug)]
pub(crate) struct Hosts {
    /// `None`: any name.
    names: Option<Vec<String>>,
}

impl Hosts {
    /// A listener on this address, and the names it was given. One that is reached from elsewhere, and was given none, has names that only
    /// its users know.
    pub(crate) fn new(listens_on: IpAddr, names: &[String]) -> Hosts {
        let is_any = names.is_empty() && !listens_on.to_canonical().is_loopback();
        Hosts { names: (!is_any).then(|| names.to_vec()) }
    }

    /// Whether a `Host` header, such as `localhost:8080`, is one of ours.
    pub(crate) fn has(&self, host: &[u8]) -> bool {
        let Some(names) = &self.names else { return true };
        let Ok(host) = std::str::from_utf8(host) else { return false };
        let name = without_port(host);
        let is_local = |name: &str| {
            name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost")
        };
        name.parse::<IpAddr>().is_ok()
            || is_local(name)
            || names.iter().any(|known| known.eq_ignore_ascii_case(name))
    }
}

/// The name or address, an IPv6 one without its brackets.
fn without_port(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        let (address, port) = rest.split_once(']').unwrap_or((rest, "]"));
        let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_digits);
        return if is_port { address } else { host };
    }
    match host.rsplit_once(':') {
        Some((name, port)) if is_digits(port) => name,
        _ => host,
    }
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_loopback_a_host_is_an_address_localhost_or_a_name_that_was_given() {
        let given = ["broker.example".to_owned()];
        for listens_on in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            let hosts = Hosts::new(listens_on.parse().unwrap(), &given);
            for host in [
                "localhost",
                "LOCALHOST:8080",
                "app.localhost:1",
                "127.0.0.1:8080",
                "10.0.0.1",
                "[::1]:8080",
                "[::1]",
                "broker.example",
                "Broker.Example:8080",
            ] {
                assert!(hosts.has(host.as_bytes()), "{host}");
            }
            for host in [
                "evil.example",
                "evil.example:8080",
                "broker.example.evil.example",
                "localhost.evil.example",
                "127.0.0.1.evil.example",
                "",
                ":8080",
                "notlocalhost",
                "[::1].evil.example:x",
                "broker.example:x",
            ] {
                assert!(!hosts.has(host.as_bytes()), "{host}");
            }
            assert!(!hosts.has(b"\xff"));
        }
    }

    #[test]
    fn elsewhere_any_name_will_do_unless_some_are_given() {
        let anywhere: IpAddr = "0.0.0.0".parse().unwrap();
        assert!(Hosts::new(anywhere, &[]).has(b"metrics.internal:8080"));
        let hosts = Hosts::new(anywhere, &["metrics.internal".to_owned()]);
        assert!(hosts.has(b"metrics.internal:8080") && !hosts.has(b"evil.example"));
    }
}
