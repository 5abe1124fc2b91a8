//! Where packages come from, as pip's users have it set.
//!
//! Owns the reading of pip's variables and files: a machine that is set up for pip needs nothing else. Without
//! any it is the public index. It asks nobody.

use std::path::{Path, PathBuf};

use super::error::InstallError;

const PUBLIC: &str = "https://pypi.org/simple";

/// Where packages come from, and how to get there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registry {
    /// The index, without a slash at its end.
    pub(super) index: String,
    /// The certificates to trust instead of the system's.
    pub(super) certificates: Option<PathBuf>,
    /// A proxy for HTTPS.
    pub(super) proxy: Option<String>,
    /// Hosts that are asked directly; `*` for all.
    pub(super) direct: Vec<String>,
}

impl Registry {
    /// What this process's variables and the files of pip say.
    ///
    /// # Errors
    /// [`InstallError::Setting`].
    pub fn detect() -> Result<Self, InstallError> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self::read(variable, |path| std::fs::read_to_string(path).ok())
    }

    fn read(
        variable: impl Fn(&str) -> Option<String>,
        file: impl Fn(&Path) -> Option<String>,
    ) -> Result<Self, InstallError> {
        let texts: Vec<String> = files(&variable).iter().filter_map(|path| file(path)).collect();
        let setting = |name: &str| {
            let of_pip = variable(&format!("PIP_{}", name.to_uppercase().replace('-', "_")));
            of_pip.or_else(|| texts.iter().rev().find_map(|text| value_of(text, name)))
        };
        let index = setting("index-url").unwrap_or_else(|| PUBLIC.to_owned());
        if !index.starts_with("https://") && !index.starts_with("http://") {
            return Err(InstallError::Setting {
                name: "index-url of pip".to_owned(),
                value: without_secret(&index),
                problem: "expected an address that begins with https://".to_owned(),
            });
        }
        let either = |name: &str| variable(name).or_else(|| variable(&name.to_lowercase()));
        let proxy = setting("proxy").or_else(|| either("HTTPS_PROXY")).or_else(|| either("ALL_PROXY"));
        let direct = either("NO_PROXY").unwrap_or_default();
        Ok(Self {
            index: index.trim_end_matches('/').to_owned(),
            certificates: setting("cert").map(PathBuf::from),
            proxy,
            direct: direct.split(',').map(|host| host.trim().trim_start_matches('.').to_owned()).collect(),
        })
    }

    /// The proxy to reach `host` by, if it is not asked directly.
    pub(super) fn proxy_for(&self, host: &str) -> Option<&str> {
        let is_direct = |name: &String| {
            name == "*" || (!name.is_empty() && (host == name || host.ends_with(&format!(".{name}"))))
        };
        self.proxy.as_deref().filter(|_| !self.direct.iter().any(is_direct))
    }
}

/// The files that pip reads, the one that counts most last.
fn files(variable: &impl Fn(&str) -> Option<String>) -> Vec<PathBuf> {
    let named = variable("PIP_CONFIG_FILE").map(PathBuf::from);
    if named.as_deref() == Some(Path::new("/dev/null")) {
        return Vec::new();
    }
    let home = variable("HOME").map(PathBuf::from);
    let config = variable("XDG_CONFIG_HOME").map(PathBuf::from);
    let config = config.or_else(|| home.as_ref().map(|home| home.join(".config")));
    let mut files = vec![PathBuf::from("/etc/pip.conf")];
    if let Some(home) = &home {
        files.push(home.join(".pip/pip.conf"));
        files.push(home.join("Library/Application Support/pip/pip.conf"));
    }
    files.extend(config.map(|config| config.join("pip/pip.conf")));
    files.extend(variable("VIRTUAL_ENV").map(|folder| Path::new(&folder).join("pip.conf")));
    files.extend(named);
    files
}

/// A key of the sections that count for `pip download`.
fn value_of(text: &str, name: &str) -> Option<String> {
    let mut section = String::new();
    let mut found = None;
    for line in text.lines().map(str::trim) {
        if let Some(title) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            title.trim().clone_into(&mut section);
        }
        let Some((key, value)) = line.split_once(['=', ':']).filter(|_| !line.starts_with(['#', ';'])) else {
            continue;
        };
        let fits = key.trim().replace('_', "-") == name && !value.trim().is_empty();
        // What a command has to itself counts more than what all have.
        if fits && (section == "download" || (section == "global" && found.is_none())) {
            found = Some(value.trim().to_owned());
        }
    }
    found
}

/// An address without the name and password that it may begin with.
pub(super) fn without_secret(address: &str) -> String {
    match address.split_once("://") {
        Some((scheme, rest)) => {
            let end = rest.find('/').unwrap_or(rest.len());
            let (authority, path) = rest.split_at(end);
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            format!("{scheme}://{host}{path}")
        }
        None => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)], files: &[(&str, &str)]) -> Result<Registry, InstallError> {
        let pick = |list: &[(&str, &str)], name: &str| {
            list.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        Registry::read(|name| pick(variables, name), |path| pick(files, path.to_str().unwrap()))
    }

    #[test]
    fn without_any_setting_it_is_the_public_index() {
        let registry = read(&[], &[]).unwrap();
        assert_eq!((registry.index.as_str(), registry.proxy_for("example.org")), (PUBLIC, None));
    }

    #[test]
    fn variables_count_more_than_files_and_later_files_more_than_earlier_ones() {
        let system = ("/etc/pip.conf", "[global]\nindex-url = https://a/simple/\ncert: /ca.pem\n");
        let user = (
            "/home/u/.config/pip/pip.conf",
            "# x\n[install]\nindex-url=https://no\n[global]\nindex_url = https://b/simple\n",
        );
        let home = ("HOME", "/home/u");
        let index = |variables: &[(&str, &str)]| read(variables, &[system, user]).unwrap().index;
        assert_eq!(index(&[]), "https://a/simple");
        assert_eq!(index(&[home]), "https://b/simple");
        assert_eq!(index(&[home, ("PIP_INDEX_URL", "https://c/s/")]), "https://c/s");
        assert_eq!(index(&[home, ("PIP_CONFIG_FILE", "/dev/null")]), PUBLIC);
        assert_eq!(read(&[home], &[system]).unwrap().certificates, Some("/ca.pem".into()));
        assert_eq!(value_of("[download]\nproxy=a\n[global]\nproxy=b", "proxy"), Some("a".to_owned()));
        assert_eq!(value_of("proxy=a\n[freeze]\nproxy=b\n;proxy=c", "proxy"), None);
    }

    #[test]
    fn a_proxy_is_not_asked_for_hosts_that_are_direct() {
        let variables = [("https_proxy", "http://p:3128"), ("NO_PROXY", "localhost, .example.com")];
        let registry = read(&variables, &[]).unwrap();
        assert_eq!(registry.proxy_for("example.org"), Some("http://p:3128"));
        for host in ["localhost", "example.com", "a.example.com"] {
            assert_eq!(registry.proxy_for(host), None, "{host}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let error = read(&[("PIP_INDEX_URL", "ftp://me:secret@host/simple")], &[]).unwrap_err().to_string();
        assert!(error.contains("ftp://host/simple") && !error.contains("secret"), "{error}");
        assert_eq!(without_secret("https://a:b@c@d/e@f"), "https://d/e@f");
    }
}
