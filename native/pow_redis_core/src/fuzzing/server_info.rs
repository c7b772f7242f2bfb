//! Properties of the parser of `INFO`.

use crate::net::server_info::ServerInfo;

/// The fields of a reply to `INFO` are on one line each, and no longer than the reply.
pub fn server_info(bytes: &[u8]) {
    let info = ServerInfo::parse(bytes);
    let texts = [&info.version, &info.mode, &info.role, &info.eviction_policy];
    for text in texts.into_iter().flatten() {
        assert!(!text.contains('\n'));
        assert!(text.len() <= bytes.len() + "Valkey ".len());
    }
}
