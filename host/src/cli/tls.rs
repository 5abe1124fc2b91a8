//! `nuke tls`: a certificate for trying TLS.
//!
//! Owns the command's arguments, the files that it writes with their modes, and what it tells. What is in the
//! certificate is `tls`'s.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use super::Failure;
use crate::tls::{Pair, make_pair};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Arguments of `nuke tls`.
#[derive(clap::Args, Debug)]
pub(super) struct TlsArgs {
    #[command(subcommand)]
    command: TlsCommand,
}

#[derive(clap::Subcommand, Debug)]
enum TlsCommand {
    /// Make a certificate that is signed by itself, and its key
    SelfSigned(SelfSignedArgs),
}

/// Arguments of `nuke tls self-signed`.
#[derive(clap::Args, Debug)]
struct SelfSignedArgs {
    /// A name or address that clients use for the host (may be given again)
    #[arg(long = "host", value_name = "NAME", default_values = ["localhost", "127.0.0.1", "::1"])]
    hosts: Vec<String>,
    /// The folder for cert.pem and key.pem
    #[arg(long, value_name = "DIR", default_value = "tls")]
    out: PathBuf,
    /// How many days it holds
    #[arg(long, value_name = "N", default_value = "365", value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
    /// Replace files that are there
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: &TlsArgs) -> ExitCode {
    let TlsCommand::SelfSigned(args) = &args.command;
    match self_signed(args) {
        Ok(told) => {
            print!("{told}");
            ExitCode::SUCCESS
        }
        Err(failure) => failure.report(),
    }
}

/// Writes both files and says how to use them.
fn self_signed(args: &SelfSignedArgs) -> Result<String, Failure> {
    let pair = make_pair(&args.hosts, DAY * args.days).map_err(Failure::config)?;
    let (cert, key) = (args.out.join("cert.pem"), args.out.join("key.pem"));
    if let Some(there) = [&cert, &key].into_iter().find(|path| path.exists() && !args.force) {
        let message = format!("'{}' is there already; --force replaces it", there.display());
        return Err(Failure::failed(message));
    }
    write_pair(&args.out, &cert, &key, &pair)
        .map_err(|error| Failure::failed(format!("cannot write to '{}': {error}", args.out.display())))?;
    Ok(told(args, &cert, &key))
}

/// The key first: a server that follows the files sees a pair that fits, or none that does.
fn write_pair(folder: &Path, cert: &Path, key: &Path, pair: &Pair) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    replace(key, pair.key.as_bytes(), 0o600)?;
    replace(cert, pair.cert.as_bytes(), 0o644)
}

/// Writes a file whole under its name: nobody reads a half of it, and no mode of an older file stays.
fn replace(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    let fresh = path.with_extension("pem.tmp");
    if let Err(error) = std::fs::remove_file(&fresh)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)
}

fn told(args: &SelfSignedArgs, cert: &Path, key: &Path) -> String {
    let host = args.hosts.first().map_or("localhost", String::as_str);
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let (cert, key) = (cert.display(), key.display());
    format!(
        "wrote {cert} and {key}: for {}, {} days\n\n\
         config.yaml:\n  server: {{https: 127.0.0.1:8443}}\n  tls: {{cert: {cert}, key: {key}}}\n\n\
         try it:\n  curl --cacert {cert} https://{host}:8443/v2/health/ready\n  \
         nuke bench --url https://{host}:8443 --ca {cert} --path /v2/health/live\n\n\
         Clients have to be told to trust {cert}; for others than yourself use a certificate that they trust already.\n",
        args.hosts.join(", "),
        args.days
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn args(out: &Path, hosts: &[&str], force: bool) -> SelfSignedArgs {
        let hosts = hosts.iter().map(|&host| host.to_owned()).collect();
        SelfSignedArgs { hosts, out: out.to_owned(), days: 1, force }
    }

    #[test]
    fn the_files_have_their_modes_and_are_replaced_on_demand_only() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("a/b");
        let told = self_signed(&args(&out, &["h.example", "10.0.0.1"], false)).unwrap();
        assert!(told.contains("https://h.example:8443/v2/health/ready"), "{told}");
        let mode = |name: &str| std::fs::metadata(out.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("key.pem"), mode("cert.pem")), (0o600, 0o644));
        let key = std::fs::read_to_string(out.join("key.pem")).unwrap();
        assert!(key.contains("PRIVATE KEY") && !told.contains(key.lines().nth(1).unwrap()));
        let again = self_signed(&args(&out, &["h.example"], false)).unwrap_err();
        assert!(again.message.contains("--force"), "{}", again.message);
        assert_eq!(std::fs::read_to_string(out.join("key.pem")).unwrap(), key);
        std::fs::set_permissions(out.join("key.pem"), std::fs::Permissions::from_mode(0o666)).unwrap();
        self_signed(&args(&out, &["::1"], true)).unwrap();
        assert_eq!(mode("key.pem"), 0o600);
        assert_ne!(std::fs::read_to_string(out.join("key.pem")).unwrap(), key);
        assert!(self_signed(&args(&out.join("c"), &["é"], false)).is_err());
    }
}
