//! An address to listen on: `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::setting::{Text, Wrong};
use super::yaml_text;

/// A host and a port. Port 0 lets the system choose one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListenAddress {
    host: Host,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Host {
    Ip(IpAddr),
    /// A name, to be resolved by whoever listens.
    Name(String),
}

impl ListenAddress {
    /// The loopback address 127.0.0.1 with this port.
    pub const fn loopback(port: u16) -> Self {
        Self { host: Host::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST)), port }
    }

    /// The host as a resolver takes it: an IP address without brackets, or a name.
    pub fn host(&self) -> String {
        match &self.host {
            Host::Ip(ip) => ip.to_string(),
            Host::Name(name) => name.clone(),
        }
    }

    /// The port; 0 lets the system choose one.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// True if only this machine can reach the address, judged by its text: an IP address of the
    /// loopback, or the name `localhost`. Every other name counts as open to others.
    pub fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Ip(ip) => ip.to_canonical().is_loopback(),
            Host::Name(name) => name.eq_ignore_ascii_case("localhost"),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            Host::Ip(ip) => write!(f, "{ip}:{}", self.port),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

impl Text for ListenAddress {
    fn expected() -> String {
        "an address like 127.0.0.1:8080, [::1]:8080 or localhost:8080".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let because = |reason: &str| Wrong::Because(reason.to_owned());
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(because("the port is missing; 0 lets the system choose one"));
        };
        if host.is_empty() {
            return Err(because("name the host: 127.0.0.1 for this machine, 0.0.0.0 for all addresses"));
        }
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        let port = port.parse::<u16>().ok().filter(|_| digits);
        let port = port.ok_or_else(|| because("the port is not a number from 0 to 65535"))?;
        Ok(Self { host: parse_host(host)?, port })
    }

    fn show(&self) -> String {
        yaml_text::scalar(&self.to_string())
    }
}

fn parse_host(host: &str) -> Result<Host, Wrong> {
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse::<Ipv6Addr>().map(|ip| Host::Ip(ip.into())).map_err(|_| Wrong::Form);
    }
    if host.contains(':') {
        return Err(Wrong::Because("an IPv6 address goes in brackets".to_owned()));
    }
    if let Ok(ip) = host.parse::<Ipv4Addr>() {
        return Ok(Host::Ip(ip.into()));
    }
    // Some resolvers read "127.1" or "2130706433" as an address; here it is a slip.
    let numeric = host.split('.').next_back().is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit()));
    let label = |label: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(inner) && !label.starts_with('-')
    };
    if numeric || host.len() > 253 || !host.split('.').all(label) {
        return Err(Wrong::Form);
    }
    Ok(Host::Name(host.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Option<ListenAddress> {
        ListenAddress::parse(text).ok()
    }

    #[test]
    fn reads_and_shows() {
        for text in ["127.0.0.1:8080", "[::1]:8080", "localhost:0", "a-b.example:65535", "0.0.0.0:80"] {
            assert_eq!(read(text).map(|address| address.to_string()).as_deref(), Some(text));
        }
        let address = read("[::1]:8080").unwrap();
        assert_eq!((address.host().as_str(), address.port()), ("::1", 8080));
    }

    #[test]
    fn refuses() {
        let wrong = [
            "",
            ":",
            ":8080",
            "localhost",
            "127.0.0.1",
            "::1:8080",
            "[::1]",
            "[::1:80",
            "127.0.0.1:65536",
            "a:-1",
            "a:+1",
            "a:",
            "127.1:80",
            "2130706433:80",
            "127.0.0.256:80",
            "a b:80",
            "-a:80",
            "a..b:80",
            "[fe80::1%1]:80",
            "http://a:80",
            "é:80",
        ];
        for text in wrong {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn tells_loopback_by_text() {
        for text in
            ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1", "LocalHost:1", "[::ffff:127.0.0.1]:1"]
        {
            assert!(read(text).unwrap().is_loopback(), "{text}");
        }
        let open = [
            "0.0.0.0:1",
            "[::]:1",
            "10.0.0.1:1",
            "example.com:1",
            "localhost.evil.example:1",
            "[::ffff:10.0.0.1]:1",
        ];
        for text in open {
            assert!(!read(text).unwrap().is_loopback(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_shown_alike(text in "[\\[\\]a-z0-9:.%]{0,24}") {
            if let Some(address) = read(&text) {
                prop_assert_eq!(read(&address.to_string()), Some(address));
            }
        }
    }
}
