//! The listeners of `nuke serve`: plain, TLS, gRPC's own, and the operators' own.
//!
//! Owns which of them there are, which of them speak TLS, and that all drain together. What each serves is
//! decided in `host`.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;

use super::host::Doors;
use super::{Failure, host};
use crate::config::{ListenAddress, ServerConfig};
use crate::http::{Door, Lanes, Listener, ListenerOptions, MemoryBudget, Redirect, TlsOptions};
use crate::repository::Loader;

/// Addresses that are bound; nothing is accepted yet.
pub(super) struct Listeners {
    /// Of plain HTTP.
    pub(super) address: SocketAddr,
    /// Of HTTP over TLS.
    pub(super) https_address: Option<SocketAddr>,
    /// Of gRPC alone.
    pub(super) grpc_address: Option<SocketAddr>,
    /// Of operators.
    pub(super) admin_address: Option<SocketAddr>,
    /// What requests may hold, over all of them.
    pub(super) memory: MemoryBudget,
    plain: Listener,
    https: Option<Listener>,
    grpc: Option<Listener>,
    admin: Option<Listener>,
    tls: Option<TlsOptions>,
}

impl Listeners {
    /// Binds all addresses.
    ///
    /// # Errors
    /// An address that cannot be had, or a file of TLS that cannot be used.
    pub(super) async fn open(config: &ServerConfig, loader: &Loader) -> Result<Self, Failure> {
        let memory = host::memory(config);
        let lanes = Lanes::of_this_machine().map_err(Failure::unavailable)?;
        let options = host::listener_options(config, &memory, lanes);
        let tls = host::tls_options(config, &loader.metrics)?;
        let secure = ListenerOptions { tls: tls.clone(), ..options.clone() };
        let of = |is_secure: bool| if is_secure { &secure } else { &options };
        let server = &config.server;
        let plain = bind(&server.http, &options, loader).await?;
        let https = bind_if(server.https.as_ref(), &secure, loader).await?;
        let grpc = bind_if(server.grpc.as_ref(), of(config.tls.grpc), loader).await?;
        let admin = bind_if(server.admin.as_ref(), of(config.tls.admin), loader).await?;
        Ok(Self {
            address: plain.address().map_err(Failure::unavailable)?,
            https_address: known(https.as_ref())?,
            grpc_address: known(grpc.as_ref())?,
            admin_address: known(admin.as_ref())?,
            memory,
            plain,
            https,
            grpc,
            admin,
            tls,
        })
    }

    /// Serves until told to stop, then drains. Returns whether all connections ended in time.
    pub(super) async fn serve(
        self,
        config: &ServerConfig,
        doors: Doors,
        stop: watch::Receiver<bool>,
    ) -> bool {
        if let Some(tls) = self.tls {
            tokio::spawn(tls.certificates.follow(config.tls.reload));
        }
        let port = self.https_address.map(|address| address.port()).filter(|_| config.server.redirect);
        let plain = Redirect::new(doors.everyone.clone(), port);
        let all = tokio::join!(
            self.plain.serve(plain, stopped(stop.clone())),
            serve_if(self.https, doors.everyone, stop.clone()),
            serve_if(self.grpc, doors.grpc, stop.clone()),
            serve_if(self.admin, doors.operators, stop),
        );
        all == (true, true, true, true)
    }
}

fn known(listener: Option<&Listener>) -> Result<Option<SocketAddr>, Failure> {
    listener.map(Listener::address).transpose().map_err(Failure::unavailable)
}

async fn serve_if(listener: Option<Listener>, door: Door, stop: watch::Receiver<bool>) -> bool {
    match listener {
        Some(listener) => listener.serve(door, stopped(stop)).await,
        None => true,
    }
}

async fn bind(
    address: &ListenAddress,
    options: &ListenerOptions,
    loader: &Loader,
) -> Result<Listener, Failure> {
    let metrics = Arc::clone(&loader.metrics);
    let listener = Listener::bind((&address.host(), address.port()), options.clone(), metrics).await;
    listener.map_err(|error| Failure::unavailable(format!("cannot listen on {address}: {error}")))
}

async fn bind_if(
    address: Option<&ListenAddress>,
    options: &ListenerOptions,
    loader: &Loader,
) -> Result<Option<Listener>, Failure> {
    match address {
        Some(address) => bind(address, options, loader).await.map(Some),
        None => Ok(None),
    }
}

/// Completes when the server is to stop.
async fn stopped(mut stop: watch::Receiver<bool>) {
    // The sender lives until it has sent.
    let _told = stop.wait_for(|stop| *stop).await;
}
