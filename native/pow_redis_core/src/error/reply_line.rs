//! The line of an error reply, fit to be shown.

use std::net::{IpAddr, SocketAddr};

/// The longest line, in bytes.
const MAX_LEN: usize = 200;
/// The longest plain word.
const MAX_WORD_LEN: usize = 32;
/// The longest number.
const MAX_DIGITS: usize = 7;
/// Stands for what is left out.
const CUT: &str = "...";

/// The commands that this crate sends, and their subcommands.
const COMMANDS: [&str; 30] = [
    "acl",
    "asking",
    "auth",
    "client",
    "cluster",
    "config",
    "del",
    "echo",
    "get",
    "hello",
    "info",
    "kill",
    "nodes",
    "pexpire",
    "ping",
    "pttl",
    "renamenx",
    "role",
    "scan",
    "select",
    "sentinel",
    "set",
    "slots",
    "time",
    "tracking",
    "zadd",
    "zrem",
    "zremrangebyscore",
    "zscan",
    "zscore",
];

/// The part of an error reply that is fit to be shown: printable ASCII, one line, at most [`MAX_LEN`] bytes.
///
/// Error replies may quote the arguments of a command: keys, values, passwords. So the line ends before the
/// first word that may be one: a word in quotes, unless it is a command, or a word that is not plain. Keys are
/// Base64, and values start with a byte that is not ASCII.
pub(super) fn reply_line(text: &str) -> String {
    let mut line = String::new();
    let mut before = "";
    for word in text.split(' ') {
        let names_user = before == "User";
        before = word;
        let shown = if names_user { CUT } else { word };
        let is_address = line.starts_with("MOVED ") || line.starts_with("ASK ");
        let is_shown = names_user || is_harmless(word) || (is_address && is_host_and_port(word));
        if !is_shown || line.len() + shown.len() + 1 + CUT.len() > MAX_LEN {
            return push(line, CUT);
        }
        line = push(line, shown);
    }
    line
}

fn push(line: String, word: &str) -> String {
    if line.is_empty() {
        word.to_owned()
    } else {
        line + " " + word
    }
}

fn is_harmless(word: &str) -> bool {
    let bare = word.trim_matches([',', '.', ':', ';', '!', '?', '(', ')', '<', '>', '[', ']']);
    let quoted = ['\'', '"', '`'].iter().find_map(|&quote| {
        let inner = bare.strip_prefix(quote)?;
        Some(inner.strip_suffix(quote).unwrap_or_default())
    });
    match quoted {
        Some(inner) => inner.split('|').all(is_command),
        None if bare.is_empty() => word.len() <= 2,
        None => is_plain(bare) || is_number(bare) || is_address(bare),
    }
}

fn is_command(name: &str) -> bool {
    COMMANDS
        .iter()
        .any(|command| command.eq_ignore_ascii_case(name))
}

/// Words of a sentence: in small letters, with or without a capital, or in capitals. Some are compound.
fn is_plain(word: &str) -> bool {
    let is_part = |part: &str| {
        let rest = part.get(1..).unwrap_or_default();
        let is_lower = rest.bytes().all(|byte| byte.is_ascii_lowercase());
        let is_upper = part.bytes().all(|byte| byte.is_ascii_uppercase());
        part.starts_with(|first: char| first.is_ascii_alphabetic()) && (is_lower || is_upper)
    };
    word.len() <= MAX_WORD_LEN && word.split(['-', '/', '|', '\'']).all(is_part)
}

fn is_number(word: &str) -> bool {
    word.len() <= MAX_DIGITS && word.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_address(word: &str) -> bool {
    word.parse::<SocketAddr>().is_ok() || word.parse::<IpAddr>().is_ok()
}

fn is_host_and_port(word: &str) -> bool {
    let is_host_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    word.rsplit_once(':')
        .is_some_and(|(host, port)| host.bytes().all(is_host_byte) && port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;

    #[test]
    fn keeps_what_servers_say() {
        for line in [
            "ERR AUTH <password> called without any password configured for the default user. Are you \
             sure your configuration is correct?",
            "ERR max number of clients reached",
            "ERR unknown command 'PEXPIRE'",
            "ERR DB index is out of range",
            "ERR SELECT is not allowed in cluster mode",
            "ERR This instance has cluster support disabled",
            "ERR Protocol error: invalid bulk length",
            "ERR DISABLED You can't write or read against a disabled instance",
            "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
            "WRONGPASS invalid username-password pair or user is disabled.",
            "NOPERM this user has no permissions to run the 'cluster|slots' command",
            "MISCONF Errors writing to the AOF file: No space left on device",
            "MOVED 3999 127.0.0.1:6381",
            "MOVED 3999 redis-1.example.com:6381",
            "upstream failure",
        ] {
            assert_eq!(reply_line(line), line);
        }
    }

    #[test]
    fn ends_before_what_may_be_an_argument() {
        for (text, line) in [
            (
                "ERR unknown command 'FOO', with args beginning with: 'g20AAAADa2V5'",
                "ERR unknown command ...",
            ),
            (
                "ERR unknown command `GET`, with args beginning with: `my key`, ",
                "ERR unknown command `GET`, with args beginning with: ...",
            ),
            (
                "NOPERM User ann has no permissions to access the 'a key' key",
                "NOPERM User ... has no permissions to access the ...",
            ),
            (
                "NOPERM User ann.2 has no permissions to run the 'set' command",
                "NOPERM User ... has no permissions to run the 'set' command",
            ),
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                "OOM command not allowed when used memory > ...",
            ),
            ("ERR no such key g20AAAADa2V5 here", "ERR no such key ..."),
            ("ERR bad \u{1b}[31mvalue", "ERR bad ..."),
            ("ERR bad\r\nvalue", "ERR ..."),
            ("ERR value \u{fffd}m hidden words", "ERR value ..."),
            ("ERR id 1234567890", "ERR id ..."),
            ("MOVED 1 not_a_host", "MOVED 1 ..."),
        ] {
            assert_eq!(reply_line(text), line, "{text}");
        }
    }

    #[test]
    fn is_bounded() {
        let line = reply_line(&"word ".repeat(1_000));
        assert!((190..=MAX_LEN).contains(&line.len()), "{line}");
        assert!(line.ends_with(" word ..."), "{line}");
        assert_eq!(reply_line(&"x".repeat(MAX_WORD_LEN + 1)), CUT);
    }

    /// Whether they share eight bytes.
    fn share_bytes(line: &str, argument: &[u8]) -> bool {
        argument
            .windows(8)
            .any(|window| line.as_bytes().windows(8).any(|bytes| bytes == window))
    }

    proptest! {
        #[test]
        fn shows_no_argument(
            key in prop::collection::vec(any::<u8>(), 6..60),
            value in prop::collection::vec(any::<u8>(), 8..60),
            password in "[ -~]{8,30}",
            quote in prop::sample::select(vec!["'", "\"", "`"]),
        ) {
            // A list, and any term.
            let key = URL_SAFE_NO_PAD.encode([&[131, 108][..], &key].concat());
            let value = [&[131][..], &value].concat();
            let text = String::from_utf8_lossy(&value);
            for line in [
                format!("ERR unknown command '{key}', with args beginning with: '{text}'"),
                format!("ERR unknown command {quote}SET{quote}, with args: {quote}{key}{quote} {quote}{text}{quote}"),
                format!("NOPERM User default has no permissions to access the '{key}' key"),
                format!("ERR wrong key {key}, value {text}"),
                format!("ERR {text} {key}"),
                format!("{text}"),
                format!("{key}:{text}"),
                format!("ERR invalid password {quote}{password}{quote}"),
            ] {
                let line = reply_line(&line);
                prop_assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{}", line);
                prop_assert!(line.len() <= MAX_LEN);
                prop_assert!(!share_bytes(&line, key.as_bytes()), "{}", line);
                prop_assert!(!share_bytes(&line, &value), "{}", line);
                prop_assert!(!share_bytes(&line, password.as_bytes()), "{} {}", line, password);
            }
        }
    }
}
