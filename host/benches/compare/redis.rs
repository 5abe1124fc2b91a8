//! What it costs to ask Redis as the host does: by its own connection, one entry at a time.
//!
//! The values have the size of an answer that would be remembered; a run through the cache does this and the rest.

use std::time::{Duration, Instant};

use bytes::Bytes;
use nuke_host::cache::Remote;
use nuke_host::config::{RedisAddress, RedisConfig, RedisLogin, RedisPlace};
use nuke_host::store::Store;
use nuke_host::telemetry::StoreMetrics;

use crate::Outcome;
use crate::report::Report;
use crate::stats::Samples;

/// How long a Redis has to be reached.
const PATIENCE: Duration = Duration::from_secs(10);
/// What the entries are called.
const KEY: &str = "compare";

/// What to ask.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The port of a Redis on this machine; what it has under this program's own namespace is overwritten
    #[arg(long)]
    port: u16,
    /// Bytes of an entry (may be given again)
    #[arg(long = "size", default_values_t = [256, 602_112])]
    sizes: Vec<usize>,
    /// How long, for each size
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
}

/// Writes and reads an entry of each size in turns.
pub(crate) fn measure(args: &Args) -> Outcome<Report> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(ask(args))
}

async fn ask(args: &Args) -> Outcome<Report> {
    let settings = RedisConfig {
        place: RedisPlace::Server(RedisAddress { host: "127.0.0.1".to_owned(), port: args.port }),
        db: 0,
        login: RedisLogin::default(),
        tls: None,
        max_connections: 100,
        timeout: Duration::from_secs(1),
        connect_timeout: Duration::from_secs(1),
    };
    let remote = Remote::new(Store::open(&settings, "nuke-compare", StoreMetrics::default())?);
    let end = Instant::now() + PATIENCE;
    while !remote.store().is_up() {
        if Instant::now() > end {
            return Err(format!("no Redis answers at port {}", args.port).into());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut report = Report::new("One entry at a time");
    for &size in &args.sizes {
        let value = Bytes::from(vec![0x5a; size]);
        let (mut puts, mut gets) = (Samples::default(), Samples::default());
        let end = Instant::now() + Duration::try_from_secs_f64(args.seconds)?;
        while Instant::now() < end {
            let began = Instant::now();
            remote.put(KEY, value.clone(), Duration::from_secs(60)).await?;
            puts.push(began.elapsed());
            let began = Instant::now();
            let got = remote.get(KEY, size).await?;
            gets.push(began.elapsed());
            if got.is_none_or(|got| got.len() != size) {
                return Err(format!("an entry of {size} bytes came back otherwise").into());
            }
        }
        report.row(format!("read {size} bytes"), gets.columns());
        report.row(format!("write {size} bytes"), puts.columns());
    }
    remote.remove(KEY).await?;
    Ok(report)
}
