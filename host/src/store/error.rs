//! What can go wrong with Redis, and what that says of the connection.
//!
//! Owns [`StoreError`] and the reading of the client library's errors.

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// Why Redis did not do what it was asked. None of them is a client's fault.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// It is not asked at all, since it failed before.
    #[error("redis is not asked, since it did not answer before")]
    Open,
    /// It took longer than `cache.redis.timeout`.
    #[error("redis did not answer within cache.redis.timeout")]
    TimedOut,
    /// The connection ended, or there is none to where the key is.
    #[error("the connection to redis was lost: {0}")]
    Lost(String),
    /// It answered that it does not do that: OOM, NOPERM, WRONGTYPE, READONLY and so on.
    #[error("redis refused: {0}")]
    Refused(String),
    /// It answered with something that has no meaning.
    #[error("redis answered nonsense: {0}")]
    Garbage(String),
}

impl StoreError {
    /// Its name in metrics and logs.
    pub const fn outcome(&self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::TimedOut => "timed_out",
            Self::Lost(_) => "lost",
            Self::Refused(_) => "refused",
            Self::Garbage(_) => "garbage",
        }
    }
}

/// What an error says of the connection it came over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The server answers; it only did not like the command.
    Answers,
    /// Several of these in a row mean that the server cannot do its work now.
    Doubtful,
    /// The connection is of no use any more.
    Broken,
    /// The server answers, but it may be the wrong one by now, or does not know us any more: another connection
    /// may be better.
    Misplaced,
}

/// What an error means. In a cluster the loss of one node's connection is not the loss of all.
pub(super) fn read(error: &RedisError, is_cluster: bool) -> (StoreError, Meaning) {
    let text = words(error);
    let lost = if is_cluster { Meaning::Doubtful } else { Meaning::Broken };
    match error.kind() {
        ErrorKind::Io if error.is_timeout() => (StoreError::TimedOut, Meaning::Doubtful),
        ErrorKind::Io | ErrorKind::ClusterConnectionNotFound => (StoreError::Lost(text), lost),
        ErrorKind::Parse => (StoreError::Garbage(text), lost),
        ErrorKind::AuthenticationFailed => (StoreError::Refused(text), Meaning::Misplaced),
        ErrorKind::Server(kind) => (StoreError::Refused(text), of_server(kind)),
        ErrorKind::Extension => {
            let meaning = match error.code() {
                Some("NOAUTH" | "WRONGPASS") => Meaning::Misplaced,
                Some("BUSY") => Meaning::Doubtful,
                _ => Meaning::Answers,
            };
            (StoreError::Refused(text), meaning)
        }
        _ => (StoreError::Lost(text), lost),
    }
}

fn of_server(kind: ServerErrorKind) -> Meaning {
    match kind {
        ServerErrorKind::BusyLoading
        | ServerErrorKind::MasterDown
        | ServerErrorKind::ClusterDown
        | ServerErrorKind::TryAgain => Meaning::Doubtful,
        ServerErrorKind::ReadOnly => Meaning::Misplaced,
        _ => Meaning::Answers,
    }
}

/// The error on one short line.
pub(super) fn words(error: &RedisError) -> String {
    let text = match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        _ => error.to_string(),
    };
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

#[cfg(test)]
mod tests {
    use redis::{ServerError, parse_redis_value};

    use super::*;

    fn of_reply(reply: &str) -> (StoreError, Meaning) {
        let value = parse_redis_value(reply.as_bytes()).expect("a reply");
        let redis::Value::ServerError(error) = value else { panic!("{reply} is no error") };
        let error: ServerError = error;
        read(&RedisError::from(error), false)
    }

    #[test]
    fn what_a_server_says_is_told_from_its_loss() {
        for (reply, meaning) in [
            ("-OOM command not allowed when used memory > 'maxmemory'.\r\n", Meaning::Answers),
            ("-NOPERM this user has no permissions\r\n", Meaning::Answers),
            ("-WRONGTYPE Operation against a key\r\n", Meaning::Answers),
            ("-READONLY You can't write against a read only replica.\r\n", Meaning::Misplaced),
            ("-NOAUTH Authentication required.\r\n", Meaning::Misplaced),
            ("-LOADING Redis is loading the dataset in memory\r\n", Meaning::Doubtful),
            ("-CLUSTERDOWN The cluster is down\r\n", Meaning::Doubtful),
            ("-BUSY Redis is busy running a script.\r\n", Meaning::Doubtful),
        ] {
            let (error, found) = of_reply(reply);
            assert_eq!(found, meaning, "{reply}");
            let code = reply.trim_start_matches('-').split(' ').next().expect("a code");
            assert!(
                matches!(&error, StoreError::Refused(text) if text.starts_with(code)),
                "{reply}: {error:?}"
            );
        }
    }

    #[test]
    fn a_lost_connection_breaks_a_server_and_not_a_cluster() {
        let lost = || RedisError::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        assert_eq!(read(&lost(), false).1, Meaning::Broken);
        assert_eq!(read(&lost(), true).1, Meaning::Doubtful);
        let late = RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
        assert_eq!(read(&late, false), (StoreError::TimedOut, Meaning::Doubtful));
    }

    #[test]
    fn an_error_is_one_short_line() {
        let (error, _) = of_reply(&format!("-ERR {}\r\n", "x".repeat(5000)));
        assert!(error.to_string().len() < 300, "{error}");
    }
}
