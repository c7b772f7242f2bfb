//! What a server says of itself (`INFO`).

/// What a server says of itself; each field only where it says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerInfo {
    /// Product and version.
    pub version: Option<String>,
    /// `standalone`, `cluster` or `sentinel`.
    pub mode: Option<String>,
    /// `master` or `slave`.
    pub role: Option<String>,
    /// Bytes in use.
    pub used_memory: Option<u64>,
    /// Most bytes that may be in use; 0 for as many as there are.
    pub maxmemory: Option<u64>,
    /// What is dropped when these are in use.
    pub eviction_policy: Option<String>,
    /// Clients that are connected.
    pub connected_clients: Option<u64>,
    /// Most clients that may be connected.
    pub maxclients: Option<u64>,
}

impl ServerInfo {
    /// Reads the reply to `INFO`.
    pub(crate) fn read(info: &[u8]) -> Self {
        let text = |name| field(info, name).map(str::to_owned);
        let number = |name| field(info, name)?.parse().ok();
        Self {
            version: version(info),
            // Valkey's name for it is the second.
            mode: text("redis_mode").or_else(|| text("server_mode")),
            role: text("role"),
            used_memory: number("used_memory"),
            maxmemory: number("maxmemory"),
            eviction_policy: text("maxmemory_policy"),
            connected_clients: number("connected_clients"),
            maxclients: number("maxclients"),
        }
    }
}

/// Product and version.
pub(crate) fn version(info: &[u8]) -> Option<String> {
    match (field(info, "valkey_version"), field(info, "redis_version")) {
        (Some(version), _) => Some(format!("Valkey {version}")),
        (None, Some(version)) => Some(format!("Redis {version}")),
        (None, None) => None,
    }
}

fn field<'i>(info: &'i [u8], name: &str) -> Option<&'i str> {
    let info = std::str::from_utf8(info).ok()?;
    info.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(
            version(b"redis_version:7.0.15\r\n").as_deref(),
            Some("Redis 7.0.15")
        );
        let valkey = b"redis_version:7.2.4\r\nvalkey_version:8.1.1\r\n";
        assert_eq!(version(valkey).as_deref(), Some("Valkey 8.1.1"));
        assert_eq!(version(b""), None);
    }

    #[test]
    fn fields_that_are_there() {
        let info = b"# Memory\r\nused_memory:100\r\nused_memory_rss:900\r\nmaxmemory:200\r\n\
            maxmemory_policy:noeviction\r\n# Clients\r\nmaxclients:x\r\nrole:master\r\n";
        let expected = ServerInfo {
            role: Some("master".to_owned()),
            used_memory: Some(100),
            maxmemory: Some(200),
            eviction_policy: Some("noeviction".to_owned()),
            ..ServerInfo::default()
        };
        assert_eq!(ServerInfo::read(info), expected);
    }
}
