//! The listeners of `nuke serve`: plain, TLS, and the operators' own.
//!
//! Owns which of them there are, what each serves, and that all drain together.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;

use super::{Failure, host};
use crate::config::{ListenAddress, ServerConfig};
use crate::http::{
    AppState, Listener, ListenerOptions, MemoryBudget, Redirect, TlsOptions, admin_router, router,
};
use crate::repository::Loader;

/// Addresses that are bound; nothing is accepted yet.
pub(super) struct Doors {
    /// Of plain HTTP.
    pub(super) address: SocketAddr,
    /// Of HTTP over TLS.
    pub(super) https_address: Option<SocketAddr>,
    /// Of operators.
    pub(super) admin_address: Option<SocketAddr>,
    /// What requests may hold, over all of them.
    pub(super) memory: MemoryBudget,
    plain: Listener,
    https: Option<Listener>,
    admin: Option<Listener>,
    tls: Option<TlsOptions>,
}

impl Doors {
    /// Binds all addresses.
    ///
    /// # Errors
    /// An address that cannot be had, or a file of TLS that cannot be used.
    pub(super) async fn open(config: &ServerConfig, loader: &Loader) -> Result<Self, Failure> {
        let memory = host::memory(config);
        let options = host::listener_options(config, &memory);
        let tls = host::tls_options(config, &loader.metrics)?;
        let secure = ListenerOptions { tls: tls.clone(), ..options.clone() };
        let plain = bind(&config.server.http, &options, loader).await?;
        let https = bind_if(config.server.https.as_ref(), &secure, loader).await?;
        let of_admin = if config.tls.admin { &secure } else { &options };
        let admin = bind_if(config.server.admin.as_ref(), of_admin, loader).await?;
        let known = |listener: Option<&Listener>| listener.map(Listener::address).transpose();
        Ok(Self {
            address: plain.address().map_err(Failure::unavailable)?,
            https_address: known(https.as_ref()).map_err(Failure::unavailable)?,
            admin_address: known(admin.as_ref()).map_err(Failure::unavailable)?,
            memory,
            plain,
            https,
            admin,
            tls,
        })
    }

    /// Serves until told to stop, then drains. Returns whether all connections ended in time.
    pub(super) async fn serve(
        self,
        config: &ServerConfig,
        state: AppState,
        stop: watch::Receiver<bool>,
    ) -> bool {
        if let Some(tls) = self.tls {
            tokio::spawn(tls.certificates.follow(config.tls.reload));
        }
        let port = self.https_address.map(|address| address.port()).filter(|_| config.server.redirect);
        let routes = router(state.clone());
        let plain = self.plain.serve(Redirect::new(routes.clone(), port), stopped(stop.clone()));
        let https = async {
            match self.https {
                Some(https) => https.serve(routes, stopped(stop.clone())).await,
                None => true,
            }
        };
        let admin = async {
            match self.admin {
                Some(admin) => admin.serve(admin_router(state), stopped(stop.clone())).await,
                None => true,
            }
        };
        tokio::join!(plain, https, admin) == (true, true, true)
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
