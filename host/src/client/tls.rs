//! How a command speaks TLS with a host.
//!
//! Owns the arguments for it, and the stream that is plain or not. Whom to trust is decided in [`crate::tls`].

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::error::ClientError;
use super::host::Host;
use crate::tls::{ClientOptions, ClientTls};

/// Whom to trust at an https:// URL, and as whom to come.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "TLS, for https:// URLs")]
pub(super) struct TlsArgs {
    /// The authorities to trust, in PEM [default: those of the system]
    #[arg(long, value_name = "FILE", env = "NUKE_CLIENT_CA", conflicts_with = "insecure")]
    ca: Option<PathBuf>,
    /// Trust whoever answers; for trying things only
    #[arg(long)]
    insecure: bool,
    /// The client's own certificate, in PEM
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Its private key, in PEM [default: in the file of --cert]
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

impl TlsArgs {
    /// The host, with the way in which it is asked.
    ///
    /// # Errors
    /// [`ClientError::Usage`]: a file that cannot be used, or arguments for TLS with a host without it.
    pub(super) fn host(&self, host: &Host) -> Result<Host, ClientError> {
        if !host.is_secure() {
            let given = self.ca.is_some() || self.insecure || self.cert.is_some();
            return if given && std::env::var_os("NUKE_CLIENT_CA").is_none() {
                Err(ClientError::Usage(format!(
                    "--ca, --insecure and --cert are for https://, and the URL is {host}"
                )))
            } else {
                Ok(host.clone())
            };
        }
        let (ca, cert, key) = (self.ca.clone(), self.cert.clone(), self.key.clone());
        let options = ClientOptions { ca, insecure: self.insecure, cert, key };
        let tls = ClientTls::open(&options).map_err(|error| ClientError::Usage(error.to_string()))?;
        Ok(host.clone().with_tls(tls))
    }

    /// Another host, to be compared with: it may be plain where the first is not.
    ///
    /// # Errors
    /// [`ClientError::Usage`]: a file that cannot be used.
    pub(super) fn other_host(&self, host: &Host) -> Result<Host, ClientError> {
        if host.is_secure() { self.host(host) } else { Ok(host.clone()) }
    }
}

/// A connection to a host.
#[derive(Debug)]
pub(super) enum HostStream {
    /// Without TLS.
    Plain(TcpStream),
    /// With it.
    Secure(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for HostStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Secure(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for HostStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Secure(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Secure(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Secure(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Secure(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Secure(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
