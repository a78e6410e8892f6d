//! Names of hosts, as settings have them: `broker.example,metrics.internal`.

/// Reads names with commas between them; the error says what is wrong.
pub(super) fn parse_names(text: &str) -> Result<Vec<String>, String> {
    let is_name = |name: &str| {
        !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
    };
    let names = text.split(',').map(|name| {
        let name = name.trim();
        if is_name(name) {
            return Ok(name.to_owned());
        }
        Err(format!(
            "{name:?} is no name of a host: expected letters, digits, '.', '-' and '_', without scheme or port"
        ))
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_commas_between_them_and_neither_scheme_nor_port() {
        let names = parse_names("broker.example, metrics_1.internal").unwrap();
        assert_eq!(names, ["broker.example", "metrics_1.internal"]);
        for text in ["", "a,,b", "http://a", "a:8080", "*.example", "a b"] {
            assert!(parse_names(text).unwrap_err().contains("is no name of a host"), "{text}");
        }
    }
}
