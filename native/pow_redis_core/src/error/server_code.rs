//! The code of an error reply.

/// The code of an error reply: its first word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerCode(String);

impl ServerCode {
    /// Any text that does not look like a code becomes `ERR`: it may contain a key.
    pub(crate) fn new(code: &str) -> Self {
        let is_code = !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_uppercase());
        Self(if is_code { code } else { "ERR" }.to_owned())
    }

    /// The code of a server that accepts no writes.
    pub(crate) fn read_only() -> Self {
        Self("READONLY".to_owned())
    }

    /// The code of a cluster with unreachable slots.
    pub(crate) fn cluster_down() -> Self {
        Self("CLUSTERDOWN".to_owned())
    }

    /// The code, such as `OOM` or `NOAUTH`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether another server, or the same one later, may accept the command. Connecting again finds it.
    pub(crate) fn requires_reconnect(&self) -> bool {
        matches!(
            self.as_str(),
            "LOADING"
                | "BUSY"
                | "READONLY"
                | "NOREPLICAS"
                | "MASTERDOWN"
                | "CLUSTERDOWN"
                | "TRYAGAIN"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_only_codes_of_error_replies() {
        assert_eq!(ServerCode::new("OOM").as_str(), "OOM");
        assert_eq!(ServerCode::new("key:secret").as_str(), "ERR");
        assert_eq!(ServerCode::new("").as_str(), "ERR");
    }
}
