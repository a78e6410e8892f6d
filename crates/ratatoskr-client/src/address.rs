//! Broker addresses as people write them: `localhost:50051`, `http://10.0.0.5:50051`, `broker`.

use crate::error::ClientError;

/// The port when none is given.
const PORT_DEFAULT: u16 = 50051;

/// A checked address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// Host and port, for messages to people.
    pub(crate) shown: String,
    /// What the transport takes.
    pub(crate) uri: String,
    /// Whether the connection is to be encrypted.
    pub(crate) has_tls: bool,
    /// Whether the text said so itself, one way or the other.
    has_scheme: bool,
}

impl Address {
    pub(crate) fn parse(text: &str) -> Result<Address, ClientError> {
        let wrong = |why: &str| {
            ClientError::invalid(
                "ADDRESS",
                format!("server address {text:?} {why}; expected HOST:PORT, such as localhost:50051"),
            )
        };
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme @ ("http" | "https"), rest)) => {
                (Some(scheme), rest.strip_suffix('/').unwrap_or(rest))
            }
            Some(_) => return Err(wrong("has a scheme other than http and https")),
            None => (None, text),
        };
        if rest.is_empty() || rest.contains(|c: char| c.is_whitespace() || matches!(c, '/' | '@' | '?' | '#'))
        {
            return Err(wrong("is no host and port"));
        }
        let shown = match port_of(rest) {
            Some(port) if port.parse::<u16>().is_ok_and(|port| port > 0) => rest.to_owned(),
            Some(_) => return Err(wrong("has no port from 1 to 65535 after its colon")),
            None => format!("{rest}:{PORT_DEFAULT}"),
        };
        let (uri, has_scheme) = (format!("{}://{shown}", scheme.unwrap_or("http")), scheme.is_some());
        Ok(Address { uri, shown, has_tls: scheme == Some("https"), has_scheme })
    }

    /// The same with TLS, if that is wanted. An address that says `http://` is held to it.
    pub(crate) fn with_tls(self, is_wanted: bool) -> Result<Address, ClientError> {
        if !is_wanted || self.has_tls {
            return Ok(self);
        }
        if self.has_scheme {
            let message = format!("server address {:?} is one without TLS, and TLS is asked for", self.uri);
            return Err(ClientError::invalid("ADDRESS", format!("{message}; write https://{}", self.shown)));
        }
        Ok(Address { uri: format!("https://{}", self.shown), has_tls: true, ..self })
    }
}

/// What stands after the host's colon. The colons of an IPv6 address are within brackets.
fn port_of(host_and_port: &str) -> Option<&str> {
    let after_host = host_and_port.rfind(']').map_or(0, |bracket| bracket + 1);
    host_and_port[after_host..].rsplit_once(':').map(|(_, port)| port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_forms_are_understood() {
        for (text, shown) in [
            ("localhost:50051", "localhost:50051"),
            ("http://localhost:9090/", "localhost:9090"),
            ("broker.internal", "broker.internal:50051"),
            ("[::1]:7", "[::1]:7"),
            ("[::1]", "[::1]:50051"),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!((address.shown.as_str(), address.uri), (shown, format!("http://{shown}")), "{text}");
            assert!(!address.has_tls, "{text}");
        }
    }

    #[test]
    fn tls_is_asked_for_by_the_address_or_by_the_options() {
        for (text, is_wanted) in
            [("https://broker", false), ("https://broker/", true), ("broker:50051", true)]
        {
            let address = Address::parse(text).unwrap().with_tls(is_wanted).unwrap();
            assert_eq!((address.uri.as_str(), address.has_tls), ("https://broker:50051", true), "{text}");
        }
        let error = Address::parse("http://broker").unwrap().with_tls(true).unwrap_err().to_string();
        assert!(error.ends_with("TLS is asked for; write https://broker:50051"), "{error}");
    }

    #[test]
    fn what_is_no_address_is_told_so() {
        for text in ["", "localhost:", "localhost:0", "localhost:70000", "ftp://x", "a b", "x/y", "a@b"] {
            let error = Address::parse(text).unwrap_err().to_string();
            assert!(error.contains("expected HOST:PORT"), "{text}: {error}");
        }
    }
}
