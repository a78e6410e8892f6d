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
}

impl Address {
    pub(crate) fn parse(text: &str) -> Result<Address, ClientError> {
        let wrong = |why: &str| {
            ClientError::invalid(
                "ADDRESS",
                format!("server address {text:?} {why}; expected HOST:PORT, such as localhost:50051"),
            )
        };
        let rest = match text.split_once("://") {
            Some(("http", rest)) => rest.strip_suffix('/').unwrap_or(rest),
            Some(("https", _)) => return Err(wrong("asks for TLS, which is not there yet")),
            Some(_) => return Err(wrong("has a scheme other than http")),
            None => text,
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
        Ok(Address { uri: format!("http://{shown}"), shown })
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
        }
    }

    #[test]
    fn what_is_no_address_is_told_so() {
        for text in
            ["", "localhost:", "localhost:0", "localhost:70000", "ftp://x", "https://x", "a b", "x/y", "a@b"]
        {
            let error = Address::parse(text).unwrap_err().to_string();
            assert!(error.contains("expected HOST:PORT"), "{text}: {error}");
        }
    }
}
