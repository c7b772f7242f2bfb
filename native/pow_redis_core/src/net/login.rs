//! Logging in: the user, the database, and what the server tells about itself.

use redis::Value;

use super::endpoint::Endpoint;
use super::optional_reply::{optional, optional_bytes};
use super::server_info::{run_id, version};
use crate::error::{Error, ErrorKind};
use crate::resp::commands::Commands;
use crate::resp::replies::Replies;
use crate::secret::Secret;

/// The user in old URLs of Heroku. It does not exist.
const DUMMY_USER: &[u8] = b"h";

/// The commands of a login.
pub(super) struct Login<'e> {
    username: Option<&'e [u8]>,
    password: Option<&'e [u8]>,
    database: i64,
}

/// What a server tells at a login. The user may lack permission for it.
pub(super) struct Greeting {
    pub(super) version: Option<String>,
    pub(super) run_id: Option<String>,
    /// The reply to `TIME`.
    pub(super) time: Option<Value>,
}

impl<'e> Login<'e> {
    pub(super) fn at(endpoint: &'e Endpoint) -> Self {
        Self {
            username: endpoint.username.as_deref(),
            password: endpoint.password.as_ref().map(Secret::as_bytes),
            database: endpoint.database,
        }
    }

    /// The login with the password alone, if this one failed because the server does not know its user, and
    /// that user stands for the default user.
    pub(super) fn without_user(&self, error: &Error) -> Option<Self> {
        (is_default_user(self.username) && is_wrong_pair(error)).then_some(Self {
            username: None,
            ..*self
        })
    }

    /// Whether its user is one that does not exist.
    pub(super) fn has_dummy_user(&self) -> bool {
        self.username == Some(DUMMY_USER)
    }

    /// Appends the commands.
    pub(super) fn write(&self, commands: &mut Commands) {
        if let Some(password) = self.auth_password() {
            let words: Vec<_> = self.username.into_iter().chain([password]).collect();
            commands.push_secret("AUTH", &words);
        }
        if self.database != 0 {
            commands.push_keyless("SELECT", |command| {
                command.arg(self.database);
            });
        }
        commands.push_keyless("INFO", |command| {
            command.arg("server");
        });
        commands.push_keyless("TIME", |_| ());
    }

    /// Reads the replies to the commands.
    pub(super) fn read(&self, replies: &mut Replies) -> Result<Greeting, Error> {
        if self.auth_password().is_some() {
            replies.next_value()?;
        }
        if self.database != 0 {
            replies.next_value()?;
        }
        let info = optional_bytes(replies.next_value())?;
        Ok(Greeting {
            version: info.as_deref().and_then(version),
            run_id: info.as_deref().and_then(run_id).map(str::to_owned),
            time: optional(replies.next_value())?,
        })
    }

    /// What `AUTH` takes. A user without a password is one that Redis asks for none.
    fn auth_password(&self) -> Option<&'e [u8]> {
        self.password.or(self.username.and(Some(b"")))
    }
}

/// Whether a user stands for the default user. Servers before Redis 6 know no other, and no names.
fn is_default_user(username: Option<&[u8]>) -> bool {
    matches!(username, Some(name) if name == DUMMY_USER || name == b"default")
}

/// Whether user and password do not match, or the server knows no users.
fn is_wrong_pair(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Server(code) if matches!(code.as_str(), "WRONGPASS" | "ERR"))
}

#[cfg(test)]
mod tests {
    use super::super::connection::Connection;
    use super::super::stream::Stream;
    use super::super::testing::{FakeServer, soon};
    use super::*;

    const OK: &str = "+OK\r\n";
    const WRONG_PAIR: &str = "-WRONGPASS x\r\n";
    const NO_USERS: &str = "-ERR wrong number\r\n";

    /// Logs in at a server that replies to one `AUTH` after the other. Returns how that ended, whether the
    /// user is ignored, and the commands that the server received.
    fn log_in(
        login: [Option<&str>; 2],
        replies: &[&str],
    ) -> (Result<(), Error>, bool, Vec<String>) {
        let mut replies: Vec<_> = replies
            .iter()
            .rev()
            .map(|&reply| reply.to_owned())
            .collect();
        let server = FakeServer::start(move |_| replies.pop());
        let [username, password] = login.map(|text| text.map(str::as_bytes));
        let endpoint = Endpoint {
            username: username.map(<[u8]>::to_vec),
            password: password.map(Secret::from),
            ..server.endpoint()
        };
        let mut connection = Connection::over(Stream::open(&endpoint, soon()).unwrap());
        let outcome = connection.log_in(&endpoint, soon());
        let ignored = connection.user_is_ignored();
        (outcome, ignored, server.commands("AUTH"))
    }

    #[test]
    fn the_default_user_replaces_only_the_dummy_user() {
        for refusal in [WRONG_PAIR, NO_USERS] {
            let (outcome, ignored, commands) = log_in([Some("h"), Some("pw")], &[refusal, OK]);
            assert_eq!((outcome, ignored), (Ok(()), true));
            assert_eq!(commands, ["AUTH h pw", "AUTH pw"]);

            let (outcome, ignored, commands) = log_in([Some("ann"), Some("pw")], &[refusal]);
            assert!(matches!(outcome.unwrap_err().kind(), ErrorKind::Server(_)));
            assert!(!ignored);
            assert_eq!(commands, ["AUTH ann pw"]);
        }
    }

    #[test]
    fn another_refusal_is_final() {
        let (outcome, _, commands) = log_in([Some("h"), Some("pw")], &["-LOADING x\r\n", OK]);
        assert!(matches!(outcome.unwrap_err().kind(), ErrorKind::Server(_)));
        assert_eq!(commands, ["AUTH h pw"]);
    }

    #[test]
    fn a_server_without_users_gets_the_password_alone() {
        let (outcome, ignored, commands) = log_in([Some("default"), Some("pw")], &[NO_USERS, OK]);
        assert_eq!((outcome, ignored), (Ok(()), false));
        assert_eq!(commands, ["AUTH default pw", "AUTH pw"]);

        let (outcome, _, commands) = log_in([None, Some("pw")], &[OK]);
        assert_eq!(outcome, Ok(()));
        assert_eq!(commands, ["AUTH pw"]);
    }

    #[test]
    fn the_first_refusal_is_reported() {
        let (outcome, ignored, _) = log_in([Some("h"), Some("pw")], &[WRONG_PAIR, NO_USERS]);
        let error = outcome.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Server(code) if code.as_str() == "WRONGPASS"));
        assert!(!ignored);
    }

    #[test]
    fn a_user_without_a_password_has_an_empty_one() {
        let (outcome, _, commands) = log_in([Some("open"), None], &[OK]);
        assert_eq!(outcome, Ok(()));
        assert_eq!(commands, ["AUTH open "]);
    }

    #[test]
    fn a_reply_with_the_password_is_left_out() {
        for (words, shown) in [
            ("ERR wrong password tomorrow", None),
            ("ERR wrong password", Some("ERR wrong password")),
        ] {
            let (outcome, ..) = log_in([None, Some("tomorrow")], &[&format!("-{words}\r\n")]);
            assert_eq!(outcome.unwrap_err().details().reply.as_deref(), shown);
        }
    }
}
