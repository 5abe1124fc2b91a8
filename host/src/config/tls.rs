//! `tls` in `config.yaml`: the certificate of the server, and whose certificates it asks for.
//!
//! Owns the keys, their defaults and which of them go together. It never opens one of the files.

use std::path::PathBuf;
use std::time::Duration;

use super::section::Section;
use super::server::ListenSettings;
use super::setting::{Choice, Text, Wrong, expected_choice, parse_choice, show_choice};

/// `tls`: the certificate of the server, and whose certificates it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// `cert`, default none: the certificate and those between it and the root, in PEM, the server's own
    /// first. Needed with `server.https`.
    pub cert: Option<PathBuf>,
    /// `key`, default none: the private key of `cert`, in PEM, without a password. Needed with
    /// `server.https`. Nobody but the server's user should be able to read it.
    pub key: Option<PathBuf>,
    /// `client_ca`, default none: the authorities, in PEM, whose client certificates are accepted. With it
    /// clients are asked for one.
    pub client_ca: Option<PathBuf>,
    /// `client_auth`, default required: whether a client without a certificate is refused, or only has no
    /// identity. Counts with `client_ca`.
    pub client_auth: ClientAuth,
    /// `client_crl`, default none: revocation lists, in PEM, of the authorities that sign clients'
    /// certificates. A client whose authority has no list here, or one that is out of date, is refused.
    pub client_crl: Option<PathBuf>,
    /// `min_version`, default 1.2: the oldest version of TLS. Set 1.3 where all clients are known.
    pub min_version: TlsVersion,
    /// `handshake_timeout`, default 5 s: how long a client may take with its handshake.
    pub handshake_timeout: Duration,
    /// `max_handshakes`, default 256: handshakes at a time; one more ends the oldest of them. Costs some
    /// 40 KiB each.
    pub max_handshakes: usize,
    /// `reload`, default 5 s: how often the files are read again. Costs that reading; a connection keeps
    /// what it began with.
    pub reload: Duration,
    /// `admin`, default false: whether `server.admin` speaks TLS too, with the same files. Set it where
    /// operators come over a network.
    pub admin: bool,
    /// `grpc`, default false: whether `server.grpc` speaks TLS too, with the same files. Without `server.grpc`,
    /// gRPC is served at `server.https` anyway.
    pub grpc: bool,
}

/// What becomes of a client without a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientAuth {
    /// It is refused.
    Required,
    /// It is served, without an identity.
    Optional,
}

impl Choice for ClientAuth {
    const WORDS: &'static [(&'static str, Self)] =
        &[("required", Self::Required), ("optional", Self::Optional)];
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsVersion {
    /// TLS 1.2.
    V12,
    /// TLS 1.3.
    V13,
}

impl Choice for TlsVersion {
    const WORDS: &'static [(&'static str, Self)] = &[("1.2", Self::V12), ("1.3", Self::V13)];
}

macro_rules! choice_text {
    ($($choice:ty),+) => {$(
        impl Text for $choice {
            fn expected() -> String {
                expected_choice::<Self>()
            }

            fn parse(text: &str) -> Result<Self, Wrong> {
                parse_choice(text)
            }

            fn show(&self) -> String {
                show_choice(*self).to_owned()
            }
        }
    )+};
}

choice_text!(ClientAuth, TlsVersion);

/// Reads the section; `server` says which other listeners there are.
pub(super) fn decode(section: &mut Section<'_>, server: &ListenSettings) -> TlsSettings {
    let seconds = Duration::from_secs;
    let settings = TlsSettings {
        cert: section.take("cert", None),
        key: section.take("key", None),
        client_ca: section.take("client_ca", None),
        client_auth: section.take("client_auth", ClientAuth::Required),
        client_crl: section.take("client_crl", None),
        min_version: section.take("min_version", TlsVersion::V12),
        handshake_timeout: section.take_in(
            "handshake_timeout",
            seconds(5),
            Duration::from_millis(100)..=seconds(60),
        ),
        max_handshakes: section.take_in("max_handshakes", 256, 1..=100_000),
        reload: section.take_in("reload", seconds(5), Duration::from_millis(100)..=seconds(3600)),
        admin: section.take("admin", false),
        grpc: section.take("grpc", false),
    };
    let place = section.place().clone();
    let is_used = server.https.is_some() || settings.admin || settings.grpc;
    for (key, file) in [("cert", &settings.cert), ("key", &settings.key)] {
        if is_used && file.is_none() {
            let message = "missing; TLS (server.https, tls.grpc, tls.admin) needs a certificate and its key; \
                           `nuke tls self-signed` makes a pair for trying it";
            section.problem(key, &place, message);
        }
    }
    if !is_used && settings.cert.is_some() {
        let message =
            "nothing would speak TLS with it: set server.https (or tls.grpc, tls.admin), or take it out";
        section.problem("cert", &place, message);
    }
    for (key, speaks, address) in
        [("admin", settings.admin, &server.admin), ("grpc", settings.grpc, &server.grpc)]
    {
        if speaks && address.is_none() {
            let message = format!("server.{key} is not set, so there is nothing to speak TLS there");
            section.problem(key, &place, message);
        }
    }
    if settings.client_crl.is_some() && settings.client_ca.is_none() {
        section.problem("client_crl", &place, "counts only with tls.client_ca, which is not set");
    }
    settings
}
