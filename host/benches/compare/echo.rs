//! A bare hyper server that sends each body back: the floor under any HTTP server of these bodies.
//!
//! It reads a body whole before it answers, as one that runs a model must, and has as many threads as
//! the host's network runtime. `GET` of any path answers how many bodies were sent back.

use std::convert::Infallible;
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use crate::Outcome;

/// Where to listen.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The address; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    http: SocketAddr,
}

static SENT_BACK: AtomicU64 = AtomicU64::new(0);

/// Serves until standard input ends, so that a script that dies takes it along.
pub(crate) fn serve(args: &Args) -> Outcome<()> {
    std::thread::spawn(|| {
        let mut ignored = Vec::new();
        let _end_or_error = std::io::stdin().read_to_end(&mut ignored);
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(args.http).await?;
        println!("{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(connection(stream));
        }
    })
}

async fn connection(stream: TcpStream) {
    let served =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
    // A client that goes away is no concern of this server.
    let _gone = served.await;
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() == Method::GET {
        return Ok(Response::new(SENT_BACK.load(Relaxed).to_string().into()));
    }
    let Ok(body) = request.into_body().collect().await else {
        let mut refusal = Response::new(Full::default());
        *refusal.status_mut() = StatusCode::BAD_REQUEST;
        return Ok(refusal);
    };
    SENT_BACK.fetch_add(1, Relaxed);
    Ok(Response::new(Full::new(body.to_bytes())))
}
