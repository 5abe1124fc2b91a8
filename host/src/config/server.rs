//! `config.yaml`: how the server listens, what it grants to plugins and models, what it logs.
//!
//! Each field says its default, what it costs, and when to change it; `docs/configuration.md` is
//! the same for operators.

use std::path::PathBuf;
use std::time::Duration;

use super::address::ListenAddress;
use super::answers::{CompressionSettings, CorsSettings, ServerTiming};
use super::auth::AuthSettings;
use super::cache::CacheSettings;
use super::limits::LimitSettings;
use super::names::{Capability, ErrorDetails, LogFilter, LogFormat, Pooling, Watch};
use super::node::NodeSettings;
use super::on_demand::OnDemand;
use super::quantity::ByteSize;
use super::tls::TlsSettings;

/// The server's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// `server`: listening, and the limits of a request.
    pub server: ListenSettings,
    /// `tls`: the certificate of the server, and whose certificates it asks for.
    pub tls: TlsSettings,
    /// `auth`: who is believed to be who.
    pub auth: AuthSettings,
    /// `limits`: how much each caller and each model may be asked for.
    pub limits: LimitSettings,
    /// `cache`: what is remembered, and the Redis that nodes share.
    pub cache: CacheSettings,
    /// `node`: who this host is among those that share a Redis.
    pub node: NodeSettings,
    /// `repository`: where models and plugins lie.
    pub repository: RepositorySettings,
    /// `plugins`: what a plugin may use.
    pub plugins: PluginSettings,
    /// `runtime`: ONNX Runtime.
    pub runtime: RuntimeSettings,
    /// `predict`: what of a request reaches a plugin.
    pub predict: PredictSettings,
    /// `log`: what is logged, and how.
    pub log: LogSettings,
    /// `insecure`, default false: listen on an address that others can reach although there is no
    /// authentication. Set it where something in front of the server decides who may ask.
    pub insecure: bool,
    /// `models`, default none: models outside the models folder, or settings for some inside it.
    pub models: Vec<ModelEntry>,
}

/// `server`: listening, and the limits of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenSettings {
    /// `http`, default 127.0.0.1:8080: the address of HTTP/1.1 and h2. Port 0 takes a free one.
    pub http: ListenAddress,
    /// `https`, default none: the address of HTTP/1.1 and h2 over TLS, beside `http`. Needs `tls.cert` and
    /// `tls.key`.
    pub https: Option<ListenAddress>,
    /// `redirect`, default false: answer at `http` with the address of the same thing at `https`, but for
    /// the health answers. Set it where clients may still come without TLS.
    pub redirect: bool,
    /// `grpc`, default none: an address of its own for gRPC. Without it gRPC is served at `http`, told apart by
    /// its content type. Set it where a proxy or a firewall treats the two differently.
    pub grpc: Option<ListenAddress>,
    /// `admin`, default none: an address of its own for `/admin` and for loading and unloading, which then
    /// are not served at `http`. Without it they are served at `http` if only this machine can reach it.
    /// Set it where a proxy hands requests of others on to `http`.
    pub admin: Option<ListenAddress>,
    /// `max_connections`, default 4096: connections open at a time, for each listener. One more closes those
    /// that have been idle for longest; where none is idle it waits. Each costs a file descriptor and some
    /// 10 KiB. Raise it, with `ulimit -n`, for many idle clients.
    pub max_connections: usize,
    /// `max_connections_per_address`, default 0: those from one address (IPv6: one /64); 0 is no limit of
    /// its own. Set it where clients come directly: behind a proxy all have its address.
    pub max_connections_per_address: usize,
    /// `max_streams`, default 256: requests at a time on one HTTP/2 connection. Lower it against clients
    /// that ask for too much at once.
    pub max_streams: u32,
    /// `max_header_size`, default 64 KiB: names and values of a request's headers, and its path, together.
    pub max_header_size: ByteSize,
    /// `max_headers`, default 100: headers of a request.
    pub max_headers: usize,
    /// `header_timeout`, default 10 s: from a connection's first byte to the end of a request's
    /// head. Lower it against clients that send slowly on purpose.
    pub header_timeout: Duration,
    /// `idle_timeout`, default 75 s: how long a connection may lie idle between requests. Keep it
    /// above that of a proxy in front, so that the proxy closes first.
    pub idle_timeout: Duration,
    /// `body_timeout`, default 10 s: how long each 16 KiB of a request's body may take to arrive. Raise it for
    /// clients on very slow links.
    pub body_timeout: Duration,
    /// `write_timeout`, default 30 s: how long a client may leave each part of an answer unread, 16 KiB over
    /// HTTP/2 and 256 KiB over HTTP/1.1. Raise it for clients on very slow links.
    pub write_timeout: Duration,
    /// `drain_delay`, default 0 s: from readiness going down at SIGTERM to the listener closing. Set it to
    /// some seconds where a load balancer asks for readiness, so that it looks away before it is refused.
    pub drain_delay: Duration,
    /// `drain_timeout`, default 30 s: how long requests may go on after SIGTERM. Keep it under the
    /// grace period of whatever stops the server (Kubernetes: 30 s, so lower this or raise that).
    pub drain_timeout: Duration,
    /// `max_body`, default 64 MiB: the largest request body. Costs memory
    /// of this size for each request that is being read.
    pub max_body: ByteSize,
    /// `max_memory`, default 1 GiB: bytes of all requests together, bodies above all, that are in memory at a
    /// time. What goes over it is refused at once, with 503. At least `max_body` and 1 MiB.
    pub max_memory: ByteSize,
    /// `error_details`, default local: who gets the backtrace and the output of a plugin that broke down.
    pub error_details: ErrorDetails,
    /// `max_message`, default that of `max_body`: the largest gRPC message, and the most that a compressed one
    /// may expand to. Costs memory as `max_body` does.
    pub max_message: Option<ByteSize>,
    /// `request_timeout`, default 60 s: from a request's head to its answer, waiting included.
    /// Raise it for slow models; the client gets 504 when it passes.
    pub request_timeout: Duration,
    /// `compression`: answers that go compressed.
    pub compression: CompressionSettings,
    /// `cors`: which web pages of other origins may ask.
    pub cors: CorsSettings,
    /// `server_timing`, default off: who is told in the header `server-timing` where the time of an answer went.
    pub server_timing: ServerTiming,
}

/// `repository`: where models and plugins lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositorySettings {
    /// `models`, default ./models: the folder of `<model>/<version>/`.
    pub models: PathBuf,
    /// `plugins`, default ./plugins: the folder of `<plugin>/<version>/plugin.wasm`.
    pub plugins: PathBuf,
    /// `state`, default .nuke in `models`: where decisions are kept that must outlive the process: traffic
    /// set by the admin interface, how far rollouts are. Elsewhere if the models folder is read-only.
    pub state: Option<PathBuf>,
    /// `trusted_keys`, default none: minisign public keys. With any, only versions and shared plugins
    /// whose manifest one of them has signed are loaded. Costs nothing while serving.
    pub trusted_keys: Vec<String>,
    /// `rescan`, default 5 s: how often the folders are read whole, whether or not the system
    /// told of a change. Costs a look at each file's metadata. Lower it where there are no file events
    /// (NFS), raise it for slow file systems with very many files.
    pub rescan: Duration,
    /// `quiet`, default 1 s: how long a version's files must stay as they are before it is loaded.
    /// Raise it where copies into the folder stall; each change is served this much later.
    pub quiet: Duration,
    /// `drain`, default 60 s: how long requests may go on with a version that has been replaced or unloaded
    /// before the log says that it is still held. It is never taken away from them.
    pub drain: Duration,
    /// `watch`, default auto: whether file events are used between rescans.
    pub watch: Watch,
    /// `load` and `idle`, default eager and off: whether versions are loaded as soon as they are there, or at
    /// their first request, and how long those may then lie unused. A model's own `model.yaml` comes first.
    pub on_demand: OnDemand,
    /// `memory`, default off: what all loaded versions together may use, as the host estimates it. What was
    /// loaded on demand makes room for what is asked for; a load for which there is none is refused. Set it
    /// with `lazy` models, well below what the machine or its container has.
    pub memory: Option<ByteSize>,
    /// `validation`: trying out versions in a process of their own before they are loaded.
    pub validation: ValidationSettings,
}

/// `repository.validation`: trying out versions in a process of their own before they are loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidationSettings {
    /// `enabled`, default true: whether it is done. Costs a second load of each new content. Off where the
    /// host may start no process; a model that crashes then takes the host with it.
    pub enabled: bool,
    /// `memory`, default 4 GiB: memory that the process may use, beyond five times the size of the version's
    /// files. Raise it for models whose runs need more.
    pub memory: ByteSize,
    /// `time`, default 60 s: how long it may take. Raise it for large models on slow machines.
    pub time: Duration,
    /// `verdicts`, default nuke/validated in `$XDG_CACHE_HOME` or `~/.cache`: where it is remembered
    /// which contents were found good; `None` (`off`) validates at each load. It is believed: nobody else
    /// may be able to write to it.
    pub verdicts: Option<PathBuf>,
}

/// `plugins`: what a plugin may use. All limits are for one call or one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginSettings {
    /// `time`, default 500 ms: running time of one call, host functions included. Past it the
    /// call is stopped and its instance dropped. Raise it for plugins that decode large input.
    pub time: Duration,
    /// `memory`, default 256 MiB: linear memory of one instance, at most 4 GiB. Costs address
    /// space at once and memory as it is used, times `instances`.
    pub memory: ByteSize,
    /// `output`, default 64 MiB: tensors or answer of one call, in bytes.
    pub output: ByteSize,
    /// `log`, default 64 KiB: log lines of one call, standard error included; what is more is
    /// counted and dropped. 0 silences plugins.
    pub log: ByteSize,
    /// `component_size`, default 64 MiB: the largest `plugin.wasm`. Compiling costs time and
    /// memory in proportion; plugins in JavaScript or Python need 12 to 40 MiB.
    pub component_size: ByteSize,
    /// `instances`, default twice the cores, at least 2: instances of one plugin, thus its calls
    /// at a time; more wait. Each keeps its memory. Raise it if plugins wait on the host.
    pub instances: usize,
    /// `calls_per_instance`, default 10000: calls after which an instance is replaced, so that
    /// what a guest leaks is bounded. 1 gives each call a fresh one.
    pub calls_per_instance: u64,
    /// `idle`, default 60 s: an instance unused for this long is dropped; 0 keeps none. Lower it
    /// where memory counts, raise it where the first call after a pause must be fast.
    pub idle: Duration,
    /// `threads`, default one for each core: threads that run plugin code, apart from those of
    /// the network. Lower it to leave cores to the models.
    pub threads: usize,
    /// `pixels`, default 67108864 (8192 by 8192): the largest picture that the `image` interface
    /// decodes. A pixel costs 3 bytes, plus those of each copy.
    pub pixels: u32,
    /// `files`, default 64 MiB: files of a bundle kept in memory for `bundle.read`, for each
    /// version; a file that does not fit is listed but cannot be read.
    pub files: ByteSize,
    /// `pooling`, default auto: reserve the memory of all instances at start, which makes a fresh
    /// instance several times cheaper. Off where address space is limited (`ulimit -v`).
    pub pooling: Pooling,
    /// `compile_cache`, default nuke/compiled in `$XDG_CACHE_HOME` or `~/.cache`: where compiled
    /// plugins are kept; `None` (`off`) compiles at every start. Machine code is run from there:
    /// nobody else may be able to write to it.
    pub compile_cache: Option<PathBuf>,
    /// `allow`, default all: the capabilities that bundles may be granted. Without `logging` or
    /// `bundle` here, plugins that import them are refused.
    pub allow: Vec<Capability>,
}

/// `runtime`: ONNX Runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeSettings {
    /// `ort_lib`, default none: the path of `libonnxruntime.so`. Without it the library is looked
    /// for where the set-up puts it, then by the system's loader.
    pub ort_lib: Option<PathBuf>,
    /// `intra_threads`, default 1: threads that one run of a model may use. 1 gives the most
    /// throughput under load; raise it for the latency of a single request to a large model.
    pub intra_threads: usize,
}

/// `predict`: what of a request reaches a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PredictSettings {
    /// `headers`, default accept, accept-language, content-language: request headers that plugins
    /// get as parameters, in lower case. Add what a plugin needs; whoever writes a plugin sees
    /// these of every client, so `authorization` and `cookie` pass only if they are named.
    pub headers: Vec<String>,
}

/// `log`: what is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// `format`, default auto: pretty on a terminal, else JSON.
    pub format: LogFormat,
    /// `filter`, default info: a level, or pairs of target and level.
    pub filter: LogFilter,
    /// `access`, default true: one line for each request. Costs some microseconds each.
    pub access: bool,
    /// `audit`, default none: a file to which each admin action is appended, beside its line in the log. It is
    /// opened anew for each, so that it can be renamed at any time.
    pub audit: Option<PathBuf>,
}

/// One of `models`: a model outside of the models folder, or settings for one inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelEntry {
    /// `name`, required: the model's name in URLs.
    pub name: String,
    /// `path`, required: an ONNX file, or a folder with a bundle.
    pub path: PathBuf,
    /// `version`, default 1: the version's name in URLs.
    pub version: String,
    /// `max_workers`, default that of the model: sessions of the model that may run at a time.
    pub max_workers: Option<usize>,
    /// `gpu_id`, default none: the GPU that the model runs on, as `workers.device: cuda:N` says it.
    pub gpu_id: Option<u32>,
}
