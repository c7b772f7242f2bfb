//! Commands packed for sending.

use std::io::Write;
use std::ops::Range;

use redis::Cmd;
use zeroize::Zeroize;

/// The most memory that [`Commands::clear`] keeps.
const MAX_RETAINED_BYTES: usize = 1 << 20;

/// Commands packed in a row.
#[derive(Debug, Default)]
pub struct Commands {
    bytes: Vec<u8>,
    packed: Vec<Packed>,
    command: Cmd,
    /// Whether `bytes` has to be wiped before its memory is freed.
    has_secret: bool,
}

/// The end of a packed command, and where it is to be sent.
#[derive(Debug)]
struct Packed {
    end: usize,
    destination: PackedDestination,
}

#[derive(Debug)]
enum PackedDestination {
    AnyNode,
    Node(Vec<u8>),
    /// The position of the key.
    Key(Range<usize>),
}

/// The node of a cluster to which a command is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination<'c> {
    /// Any node.
    AnyNode,
    /// The node with this id.
    Node(&'c [u8]),
    /// The node that has this key.
    Key(&'c [u8]),
}

impl Commands {
    /// No commands.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a command whose first argument is `key`. The function adds the others.
    pub fn push(&mut self, name: &str, key: &[u8], arguments: impl FnOnce(&mut Cmd)) {
        self.push_before(&[name], key, arguments);
    }

    /// Appends the command that runs a script on `key`. The function adds the script's other arguments.
    pub(crate) fn push_script(
        &mut self,
        script: &str,
        key: &[u8],
        arguments: impl FnOnce(&mut Cmd),
    ) {
        self.push_before(&["EVAL", script, "1"], key, arguments);
    }

    fn push_before(&mut self, before: &[&str], key: &[u8], arguments: impl FnOnce(&mut Cmd)) {
        self.command.clear();
        self.command.arg(before).arg(key);
        arguments(&mut self.command);
        let start = self.pack();
        // `*<count>\r\n$<length>\r\n<name>\r\n$<length>\r\n<key>\r\n…`
        let count = self.command.args_iter().len();
        let packed = |text: &&str| header_len(text.len()) + text.len() + 2;
        let before_len: usize = before.iter().map(packed).sum();
        let key_start = start + header_len(count) + before_len + header_len(key.len());
        self.packed.push(Packed {
            end: self.bytes.len(),
            destination: PackedDestination::Key(key_start..key_start + key.len()),
        });
    }

    /// Appends a command that any node of a cluster can answer.
    pub fn push_keyless(&mut self, name: &str, arguments: impl FnOnce(&mut Cmd)) {
        self.push_at(None, name, arguments);
    }

    /// Appends a command without a key for the node of a cluster with this id, or for any.
    pub fn push_at(&mut self, node: Option<&[u8]>, name: &str, arguments: impl FnOnce(&mut Cmd)) {
        self.command.clear();
        self.command.arg(name);
        arguments(&mut self.command);
        self.pack();
        self.packed.push(Packed {
            end: self.bytes.len(),
            destination: node.map_or(PackedDestination::AnyNode, |node| {
                PackedDestination::Node(node.to_vec())
            }),
        });
    }

    /// Appends a command that is packed already, without its key.
    pub(crate) fn push_packed(&mut self, command: &[u8]) {
        self.append(command);
        self.packed.push(Packed {
            end: self.bytes.len(),
            destination: PackedDestination::AnyNode,
        });
    }

    /// Appends a keyless command with secret arguments. They are wiped when the commands are cleared or
    /// dropped. `Cmd` would leave copies of them behind.
    pub(crate) fn push_secret(&mut self, name: &str, arguments: &[&[u8]]) {
        let words = || std::iter::once(name.as_bytes()).chain(arguments.iter().copied());
        let packed_words = words().map(|word| header_len(word.len()) + word.len() + 2);
        self.has_secret = true;
        self.reserve(header_len(arguments.len() + 1) + packed_words.sum::<usize>());
        self.append_header(b'*', arguments.len() + 1);
        for word in words() {
            self.append_header(b'$', word.len());
            self.bytes.extend_from_slice(word);
            self.bytes.extend_from_slice(b"\r\n");
        }
        self.packed.push(Packed {
            end: self.bytes.len(),
            destination: PackedDestination::AnyNode,
        });
    }

    /// Appends a line that announces a count or length.
    fn append_header(&mut self, sign: u8, number: usize) {
        self.bytes.push(sign);
        // Writing to memory does not fail.
        let _ = write!(self.bytes, "{number}\r\n");
    }

    /// Packs the command. Returns its position.
    fn pack(&mut self) -> usize {
        let start = self.bytes.len();
        if self.has_secret {
            self.append(&self.command.get_packed_command());
        } else {
            self.command.write_packed_command(&mut self.bytes);
        }
        start
    }

    fn append(&mut self, packed: &[u8]) {
        if self.has_secret {
            self.reserve(packed.len());
        }
        self.bytes.extend_from_slice(packed);
    }

    /// Makes room for more bytes, and wipes the memory that is given up for it.
    fn reserve(&mut self, more: usize) {
        let needed = self.bytes.len() + more;
        if needed > self.bytes.capacity() {
            let mut roomy = Vec::with_capacity(needed * 2);
            roomy.extend_from_slice(&self.bytes);
            self.bytes.zeroize();
            self.bytes = roomy;
        }
    }

    /// The bytes to send.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The destination and the bytes of each command.
    pub fn iter(&self) -> impl Iterator<Item = (Destination<'_>, &[u8])> {
        let starts = std::iter::once(0).chain(self.packed.iter().map(|packed| packed.end));
        starts.zip(&self.packed).filter_map(|(start, packed)| {
            let destination = match &packed.destination {
                PackedDestination::AnyNode => Destination::AnyNode,
                PackedDestination::Node(node) => Destination::Node(node),
                PackedDestination::Key(range) => Destination::Key(self.bytes.get(range.clone())?),
            };
            Some((destination, self.bytes.get(start..packed.end)?))
        })
    }

    /// The number of commands, and so of the replies to expect.
    pub const fn len(&self) -> usize {
        self.packed.len()
    }

    /// Whether there are no commands.
    pub const fn is_empty(&self) -> bool {
        self.packed.is_empty()
    }

    /// Removes all commands.
    pub fn clear(&mut self) {
        self.wipe();
        self.bytes.clear();
        // One huge value must not keep its memory.
        self.bytes.shrink_to(MAX_RETAINED_BYTES);
        self.packed.clear();
    }

    fn wipe(&mut self) {
        if self.has_secret {
            self.bytes.zeroize();
            self.has_secret = false;
        }
    }
}

impl Drop for Commands {
    fn drop(&mut self) {
        self.wipe();
    }
}

/// The length of a line that announces a count or length: a sign, digits and `\r\n`.
fn header_len(number: usize) -> usize {
    let digits = number.checked_ilog10().map_or(1, |log| log + 1);
    3 + usize::try_from(digits).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_commands_in_a_row() {
        let mut commands = Commands::new();
        commands.push("GET", b"k", |_| ());
        commands.push_keyless("TIME", |_| ());
        commands.push_at(Some(b"id"), "TIME", |_| ());
        assert_eq!(commands.len(), 3);
        assert!(!commands.is_empty());
        let get = &b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"[..];
        let time = &b"*1\r\n$4\r\nTIME\r\n"[..];
        assert_eq!(commands.as_bytes(), [get, time, time].concat());
        let packed: Vec<_> = commands.iter().collect();
        assert_eq!(
            packed,
            [
                (Destination::Key(b"k"), get),
                (Destination::AnyNode, time),
                (Destination::Node(b"id"), time),
            ]
        );
        commands.clear();
        assert!(commands.is_empty() && commands.as_bytes().is_empty());
    }

    #[test]
    fn sends_a_script_to_the_node_of_its_key() {
        for key_len in [0, 9, 10, 12_345] {
            let key = vec![b'k'; key_len];
            let mut commands = Commands::new();
            commands.push_script("return 1", &key, |command| {
                command.arg("a");
            });
            let (destination, _) = commands.iter().next().unwrap();
            assert_eq!(destination, Destination::Key(&key), "{key_len}");
        }
    }

    #[test]
    fn packs_secrets_like_other_commands() {
        for secret in [&b""[..], b"pw", &[b'x'; 1_000]] {
            let mut commands = Commands::new();
            let mut expected = Commands::new();
            commands.push_keyless("PING", |_| ());
            expected.push_keyless("PING", |_| ());
            for user in [&b"ann"[..], b"\r\n"] {
                commands.push_secret("AUTH", &[user, secret]);
                expected.push_keyless("AUTH", |command| {
                    command.arg(user).arg(secret);
                });
                commands.push("GET", b"k", |_| ());
                expected.push("GET", b"k", |_| ());
            }
            commands.push_packed(b"*1\r\n$4\r\nTIME\r\n");
            expected.push_keyless("TIME", |_| ());
            assert_eq!(commands.as_bytes(), expected.as_bytes());
            let packed: Vec<_> = commands.iter().collect();
            assert_eq!(packed, expected.iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn commands_without_secrets_follow_cleared_ones() {
        let mut commands = Commands::new();
        commands.push_secret("AUTH", &[b"pw"]);
        commands.clear();
        assert!(commands.is_empty() && !commands.has_secret);
        commands.push_keyless("TIME", |_| ());
        assert_eq!(commands.as_bytes(), b"*1\r\n$4\r\nTIME\r\n");
    }

    #[test]
    fn finds_keys_of_any_length() {
        for key_len in [0, 1, 9, 10, 99, 100, 12_345] {
            for arguments in [0, 6, 7, 8, 98, 1_000] {
                let key = vec![b'k'; key_len];
                let mut commands = Commands::new();
                commands.push_keyless("PING", |_| ());
                commands.push("ZREMRANGEBYSCORE", &key, |command| {
                    command.arg((0..arguments).collect::<Vec<_>>());
                });
                let (destination, _) = commands.iter().nth(1).unwrap();
                assert_eq!(destination, Destination::Key(&key), "{key_len} {arguments}");
            }
        }
    }
}
