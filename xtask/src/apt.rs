//! Owns apt as any user has it: which packages it knows, downloading them, and unpacking them into a folder.
//! apt checks the signatures. It never installs and never writes outside the folders that it is given.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;

/// The keys of Debian's archive, as every Debian has them.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// apt with the options that its lists need.
#[derive(Debug)]
pub(crate) struct Apt {
    options: Vec<String>,
}

impl Apt {
    /// The system's package lists if they know all of `wanted`, else lists of our own below `folder`, fetched now.
    ///
    /// # Errors
    /// This is no Debian, the lists cannot be fetched, or do not know them.
    pub(crate) fn knowing(wanted: &[&str], folder: &Path) -> Result<Self> {
        require()?;
        let system = Self { options: Vec::new() };
        if system.knows(wanted) {
            return Ok(system);
        }
        Self { options: lists_in(folder)? }.updated(wanted)
    }

    /// Lists of the Debian release `release`, from the archive that this machine's own release comes from.
    ///
    /// # Errors
    /// This is no Debian, the lists cannot be fetched, or do not know `wanted`.
    pub(crate) fn of_release(release: &str, wanted: &[&str], folder: &Path) -> Result<Self> {
        require()?;
        let mut options = lists_in(folder)?;
        let site = site().context("apt's sources name no archive of this release of Debian")?;
        let sources = folder.join("apt/release.sources");
        let text = format!(
            "Types: deb\nURIs: {site}\nSuites: {release}\nComponents: main\nSigned-By: {KEYRING}\n\
             Languages: none\nTargets: Packages\n"
        );
        fs::write(&sources, text).with_context(|| format!("cannot write {}", sources.display()))?;
        options.push(format!("-oDir::Etc::SourceList={}", sources.display()));
        options.push("-oDir::Etc::SourceParts=/dev/null".to_owned());
        Self { options }.updated(wanted)
    }

    fn updated(self, wanted: &[&str]) -> Result<Self> {
        // Its status alone says little: a container's clean-up hook fails where we are not root.
        let update = process::quiet(self.command("apt-get").arg("update"));
        if self.knows(wanted) {
            return Ok(self);
        }
        update.context("apt-get cannot fetch the package lists")?;
        bail!("apt knows no package {}", wanted.join(" and "))
    }

    /// `program` of apt with these lists.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(&self.options).env("LC_ALL", "C.UTF-8");
        command
    }

    fn knows(&self, wanted: &[&str]) -> bool {
        wanted.iter().all(|name| {
            let policy = process::quiet(self.command("apt-cache").args(["policy", name])).unwrap_or_default();
            has_candidate(&policy)
        })
    }

    /// The package and all that it depends on.
    ///
    /// # Errors
    /// apt cannot say.
    pub(crate) fn with_dependencies(&self, name: &str) -> Result<Vec<String>> {
        let options = ["depends", "--recurse", "--important", name];
        Ok(real_packages(&process::quiet(self.command("apt-cache").args(options))?))
    }

    /// Downloads packages into `folder` and unpacks them under `root`.
    ///
    /// # Errors
    /// One cannot be fetched or unpacked.
    pub(crate) fn unpack<'a>(
        &self,
        names: impl IntoIterator<Item = &'a String>,
        folder: &Path,
        root: &Path,
    ) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        process::quiet(self.command("apt-get").current_dir(folder).arg("download").args(names))
            .context("apt-get cannot download the packages")?;
        let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.extension().is_some_and(|extension| extension == "deb") {
                process::quiet(Command::new("dpkg").arg("-x").arg(&path).arg(root))?;
                fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(())
    }
}

fn require() -> Result<()> {
    for program in ["apt-get", "apt-cache", "dpkg"] {
        process::on_path(program).with_context(|| format!("there is no {program}: this is no Debian"))?;
    }
    Ok(())
}

/// Options that keep lists below `folder`.
fn lists_in(folder: &Path) -> Result<Vec<String>> {
    let mut options = Vec::new();
    for (key, name) in [("Dir::State::Lists", "lists"), ("Dir::Cache", "cache")] {
        let path = folder.join("apt").join(name);
        fs::create_dir_all(path.join("partial"))
            .with_context(|| format!("cannot create {}", path.display()))?;
        options.push(format!("-o{key}={}", path.display()));
    }
    Ok(options)
}

/// Where the machine's own release of Debian comes from.
fn site() -> Option<String> {
    let system = fs::read_to_string("/etc/os-release").ok()?;
    let format = "$(CREATED_BY) $(COMPONENT) $(RELEASE) $(SITE)";
    let targets = process::quiet(Command::new("apt-get").args(["indextargets", "--format", format])).ok()?;
    site_of(&system, &targets)
}

/// `system`: the text of os-release; `targets`: lines of index, component, release and site.
fn site_of(system: &str, targets: &str) -> Option<String> {
    let value =
        |key: &str| system.lines().find_map(|line| line.strip_prefix(key)).map(|text| text.trim_matches('"'));
    if value("ID=")? != "debian" {
        return None;
    }
    let start = format!("Packages main {} ", value("VERSION_CODENAME=")?);
    targets.lines().find_map(|line| line.strip_prefix(&start)).map(str::to_owned)
}

fn has_candidate(policy: &str) -> bool {
    let candidate = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "));
    candidate.is_some_and(|version| version != "(none)")
}

/// From `apt-cache depends --recurse`, the packages themselves: each begins a line of its own.
fn real_packages(lines: &str) -> Vec<String> {
    let names = lines.lines().filter(|line| !line.starts_with([' ', '<', '|']) && !line.is_empty());
    names.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::{has_candidate, real_packages, site_of};

    #[test]
    fn a_package_without_a_candidate_is_unknown() {
        assert!(has_candidate("rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0\n"));
        assert!(!has_candidate("rustc-web:\n  Installed: (none)\n  Candidate: (none)\n"));
        assert!(!has_candidate(""));
    }

    #[test]
    fn virtual_packages_and_edges_are_no_packages() {
        let lines = "client\n  Depends: libc6\n |Depends: <virtual>\nlibc6\n<virtual>\n    real\n";
        assert_eq!(real_packages(lines), ["client", "libc6"]);
    }

    #[test]
    fn the_site_is_that_of_the_machines_own_release() {
        let targets = "DEP-11 main bookworm http://a\nPackages main bookworm-updates http://b\n\
                       Packages main bookworm http://c/debian\nPackages main bookworm-security http://d\n";
        let system = "NAME=\"Debian\"\nVERSION_CODENAME=bookworm\nID=debian\n";
        assert_eq!(site_of(system, targets).as_deref(), Some("http://c/debian"));
        assert_eq!(site_of("ID=ubuntu\nVERSION_CODENAME=bookworm\n", targets), None);
        assert_eq!(site_of("", targets), None);
    }
}
