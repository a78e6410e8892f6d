//! [`Origin`]: whether a request was made by a web page of another site, through its visitor's browser.
//!
//! Such a page cannot read what it is answered, but a browser sends its requests from wherever the visitor is: from within a network, and with
//! the visitor's client certificate. Browsers say where a request comes from in headers that no page can change (Fetch Metadata, and the
//! Fetch standard's `Origin`); programs other than browsers send neither.

/// The headers that tell.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Origin<'a> {
    /// `sec-fetch-site`: how the page's origin relates to ours.
    pub(crate) fetch_site: Option<&'a [u8]>,
    /// `origin`: the page's scheme, host and port.
    pub(crate) of_page: Option<&'a [u8]>,
    /// `:authority` or `host`: ours, as the page named it.
    pub(crate) host: Option<&'a [u8]>,
}

impl Origin<'_> {
    /// True for a request of a page that is not of this very host and port. Sites that only share a domain with ours are others, too.
    pub(crate) fn is_cross_site(&self) -> bool {
        match (self.fetch_site, self.of_page) {
            // `none`: the user's own doing, such as an address typed in.
            (Some(b"same-origin" | b"none"), _) | (None, None) => false,
            (Some(_), _) => true,
            (None, Some(origin)) => !self.host.is_some_and(|host| is_origin_of(origin, host)),
        }
    }
}

/// Whether `https://example.org` is the origin of `example.org`, with or without the scheme's own port.
fn is_origin_of(origin: &[u8], host: &[u8]) -> bool {
    let (given, port): (_, &[u8]) = if let Some(given) = origin.strip_prefix(b"https://") {
        (given, b":443")
    } else if let Some(given) = origin.strip_prefix(b"http://") {
        (given, b":80")
    } else {
        return false;
    };
    let bare = |name: &[u8]| name.strip_suffix(port).unwrap_or(name).to_ascii_lowercase();
    !given.is_empty() && bare(given) == bare(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_any_other_origin_is_cross_site_and_a_program_is_not() {
        let is_cross_site = |fetch_site: Option<&str>, origin: Option<&str>| {
            let (fetch_site, origin) = (fetch_site.map(str::as_bytes), origin.map(str::as_bytes));
            Origin { fetch_site, of_page: origin, host: Some(b"broker.example:8080") }.is_cross_site()
        };
        for (fetch_site, origin, expected) in [
            (None, None, false),
            (Some("none"), None, false),
            (Some("same-origin"), Some("http://broker.example:8080"), false),
            (None, Some("http://broker.example:8080"), false),
            (None, Some("https://Broker.Example:8080"), false),
            (Some("cross-site"), None, true),
            (Some("same-site"), Some("http://other.example:8080"), true),
            (Some("cross-site"), Some("http://broker.example:8080"), true),
            (None, Some("https://evil.example"), true),
            (None, Some("http://broker.example:9090"), true),
            (None, Some("http://broker.example"), true),
            (None, Some("null"), true),
            (None, Some(""), true),
        ] {
            assert_eq!(is_cross_site(fetch_site, origin), expected, "{fetch_site:?} {origin:?}");
        }
        for host in [&b"broker.example"[..], b"broker.example:443"] {
            let request =
                Origin { of_page: Some(b"https://broker.example"), host: Some(host), fetch_site: None };
            assert!(!request.is_cross_site());
        }
        assert!(Origin { of_page: Some(b"https://broker.example"), ..Origin::default() }.is_cross_site());
    }
}
