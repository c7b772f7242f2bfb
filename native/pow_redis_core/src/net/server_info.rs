//! The fields of `INFO`.

use crate::error::printable;

/// The fields of `INFO`. Fields that the server does not report are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerInfo {
    /// Product and version.
    pub version: Option<String>,
    /// `standalone`, `cluster` or `sentinel`.
    pub mode: Option<String>,
    /// `master` or `slave`.
    pub role: Option<String>,
    /// Memory in use, in bytes.
    pub used_memory: Option<u64>,
    /// The memory limit, in bytes; 0 for none.
    pub maxmemory: Option<u64>,
    /// What is evicted at the memory limit.
    pub eviction_policy: Option<String>,
    /// The number of connected clients.
    pub connected_clients: Option<u64>,
    /// The limit on connected clients.
    pub maxclients: Option<u64>,
    /// Whether each write is appended to a file.
    pub appends_to_file: Option<bool>,
    /// Whether the last snapshot, and the last write to the file, succeeded.
    pub saves_succeed: Option<bool>,
}

impl ServerInfo {
    /// Parses the reply to `INFO`.
    pub(crate) fn parse(info: &[u8]) -> Self {
        let text = |name| field(info, name).map(printable);
        let number = |name| field(info, name)?.parse().ok();
        let succeeded = |name| field(info, name).map(|status| status == "ok");
        Self {
            version: version(info),
            // Valkey calls it `server_mode`.
            mode: text("redis_mode").or_else(|| text("server_mode")),
            role: text("role"),
            used_memory: number("used_memory"),
            maxmemory: number("maxmemory"),
            eviction_policy: text("maxmemory_policy"),
            connected_clients: number("connected_clients"),
            maxclients: number("maxclients"),
            appends_to_file: text("aof_enabled").map(|enabled| enabled == "1"),
            saves_succeed: succeeded("rdb_last_bgsave_status")
                .zip(succeeded("aof_last_write_status"))
                .map(|(snapshot, append)| snapshot && append),
        }
    }
}

/// Product and version.
pub(crate) fn version(info: &[u8]) -> Option<String> {
    let text = |name| field(info, name).map(printable);
    match (text("valkey_version"), text("redis_version")) {
        (Some(version), _) => Some(format!("Valkey {version}")),
        (None, Some(version)) => Some(format!("Redis {version}")),
        (None, None) => None,
    }
}

/// What identifies the server process.
pub(crate) fn run_id(info: &[u8]) -> Option<&str> {
    field(info, "run_id")
}

/// Whether the server is a primary.
pub(crate) fn is_primary(info: &[u8]) -> bool {
    field(info, "role") == Some("master")
}

/// How many keys the server tracks for its clients.
pub(crate) fn tracked_keys(info: &[u8]) -> Option<u64> {
    field(info, "tracking_total_keys")?.parse().ok()
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
    fn names_product_and_version() {
        assert_eq!(
            version(b"redis_version:7.0.15\r\n").as_deref(),
            Some("Redis 7.0.15")
        );
        let valkey = b"redis_version:7.2.4\r\nvalkey_version:8.1.1\r\n";
        assert_eq!(version(valkey).as_deref(), Some("Valkey 8.1.1"));
        assert_eq!(version(b""), None);
        let escapes = b"redis_version:8\x1b[2J\r\n";
        assert_eq!(version(escapes).as_deref(), Some("Redis 8?[2J"));
    }

    #[test]
    fn parses_the_fields_that_are_reported() {
        let info = b"# Memory\r\nused_memory:100\r\nused_memory_rss:900\r\nmaxmemory:200\r\n\
            maxmemory_policy:noeviction\r\n# Clients\r\nmaxclients:x\r\nrole:master\r\n";
        let expected = ServerInfo {
            role: Some("master".to_owned()),
            used_memory: Some(100),
            maxmemory: Some(200),
            eviction_policy: Some("noeviction".to_owned()),
            ..ServerInfo::default()
        };
        assert_eq!(ServerInfo::parse(info), expected);
    }

    #[test]
    fn identifies_the_process() {
        assert_eq!(run_id(b"os:Linux\r\nrun_id:abc\r\n"), Some("abc"));
        assert_eq!(run_id(b"os:Linux\r\n"), None);
    }

    #[test]
    fn counts_tracked_keys() {
        let info = b"# Stats\r\ntracking_total_keys:12\r\ntracking_total_items:30\r\n";
        assert_eq!(tracked_keys(info), Some(12));
        assert_eq!(tracked_keys(b"tracking_total_keys:\r\n"), None);
    }

    #[test]
    fn knows_whether_writes_are_kept() {
        let info = |append, snapshot, write| {
            let info = format!(
                "aof_enabled:{append}\r\nrdb_last_bgsave_status:{snapshot}\r\n\
                aof_last_write_status:{write}\r\n"
            );
            let info = ServerInfo::parse(info.as_bytes());
            (info.appends_to_file.unwrap(), info.saves_succeed.unwrap())
        };
        assert_eq!(info(0, "ok", "ok"), (false, true));
        assert_eq!(info(1, "ok", "err"), (true, false));
        assert_eq!(info(1, "err", "ok"), (true, false));
    }
}
