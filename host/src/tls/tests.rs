//! Files of every kind of wrongness, pairs that do not fit, and the change of files while they are followed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use proptest::prelude::*;

use super::files::{Material, open_to_others};
use super::peer::{PeerCertificate, not_after};
use super::reload::{Certificates, TlsEvents};
use super::self_signed::{Pair, make_pair};
use super::server::{ServerOptions, build, certificates, private_key};

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

fn pair(name: &str) -> Pair {
    make_pair(&[name.to_owned(), "127.0.0.1".to_owned()], YEAR).unwrap()
}

fn options(folder: &Path) -> ServerOptions {
    ServerOptions {
        cert: folder.join("cert.pem"),
        key: folder.join("key.pem"),
        client_ca: None,
        client_required: true,
        client_crl: None,
        only_tls13: false,
    }
}

fn write(options: &ServerOptions, cert: &str, key: &str) {
    std::fs::write(&options.cert, cert).unwrap();
    std::fs::write(&options.key, key).unwrap();
}

fn problem(cert: &[u8], key: &[u8]) -> String {
    let (cert, key) = (cert.to_vec(), key.to_vec());
    let material = Material { cert, key, client_ca: None, client_crl: None };
    build(&options(Path::new("/x")), &material).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn a_wrong_file_is_named_and_never_shown() {
    let (one, other) = (pair("one"), pair("other"));
    let encrypted = one.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let mut broken = one.key.clone();
    broken.replace_range(60..64, "!!!!");
    for (cert, key, needle) in [
        (one.cert.as_bytes(), other.key.as_bytes(), "'/x/key.pem' is not the key of '/x/cert.pem'"),
        (b"", one.key.as_bytes(), "'/x/cert.pem' has no certificate"),
        (b"\x00\xff\xfe", one.key.as_bytes(), "'/x/cert.pem' has no certificate"),
        (one.key.as_bytes(), one.key.as_bytes(), "'/x/cert.pem' has no certificate"),
        (one.cert.as_bytes(), one.cert.as_bytes(), "'/x/key.pem' has no private key"),
        (one.cert.as_bytes(), b"", "'/x/key.pem' has no private key"),
        (one.cert.as_bytes(), encrypted.as_bytes(), "'/x/key.pem' has a key with a password"),
        (one.cert.as_bytes(), broken.as_bytes(), "'/x/key.pem' has a section that is not base64"),
        (&one.cert.as_bytes()[..200], one.key.as_bytes(), "'/x/cert.pem' ends within a section"),
        (one.cert.as_bytes(), &one.key.as_bytes()[..100], "'/x/key.pem' ends within a section"),
    ] {
        let problem = problem(cert, key);
        assert!(problem.starts_with(needle), "{needle}: {problem}");
        let secret = one.key.lines().nth(1).unwrap();
        assert!(!problem.contains(&secret[..12]), "{problem}");
    }
}

#[test]
fn files_that_were_replaced_between_two_readings_are_read_again() {
    let (old, new) = (pair("old"), pair("new"));
    let folder = tempfile::tempdir().unwrap();
    let asked = options(folder.path());
    write(&asked, &new.cert, &new.key);
    let (cert, key) = (old.cert.into_bytes(), new.key.into_bytes());
    let torn = Material { cert, key, client_ca: None, client_crl: None };
    assert!(build(&asked, &torn).is_err());
    let settled = torn.settle(&asked).unwrap();
    assert_eq!(settled.cert, new.cert.as_bytes());
    assert!(build(&asked, &settled).is_ok());
}

#[test]
fn authorities_and_revocation_lists_have_to_be_some() {
    let one = pair("one");
    let folder = tempfile::tempdir().unwrap();
    let mut asked = options(folder.path());
    asked.client_ca = Some(PathBuf::from("/x/ca.pem"));
    let material = |ca: &str, crl: Option<&str>| Material {
        cert: one.cert.clone().into(),
        key: one.key.clone().into(),
        client_ca: Some(ca.as_bytes().to_vec()),
        client_crl: crl.map(|crl| crl.as_bytes().to_vec()),
    };
    let refused = |asked: &ServerOptions, material: &Material| {
        build(asked, material).map(|_| ()).unwrap_err().to_string()
    };
    assert!(refused(&asked, &material("", None)).starts_with("'/x/ca.pem' has no certificate"));
    assert!(build(&asked, &material(&one.cert, None)).is_ok());
    asked.client_crl = Some(PathBuf::from("/x/crl.pem"));
    let empty = refused(&asked, &material(&one.cert, Some("")));
    assert!(empty.starts_with("'/x/crl.pem' has no revocation list"), "{empty}");
    let nonsense = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n";
    let nonsense = refused(&asked, &material(&one.cert, Some(nonsense)));
    assert!(nonsense.starts_with("'/x/crl.pem' cannot be used"), "{nonsense}");
}

#[derive(Default)]
struct Counts {
    not_after: AtomicI64,
    taken: AtomicUsize,
    refused: AtomicUsize,
}

impl TlsEvents for Counts {
    fn in_effect(&self, not_after: i64) {
        self.not_after.store(not_after, Relaxed);
    }

    fn reloaded(&self, taken: bool) {
        if taken { &self.taken } else { &self.refused }.fetch_add(1, Relaxed);
    }
}

#[test]
fn only_a_pair_that_fits_takes_the_place_of_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let (one, other) = (pair("one"), make_pair(&["other".to_owned()], YEAR * 2).unwrap());
    write(&options, &one.cert, &one.key);
    let counts = Arc::new(Counts::default());
    let followed = Certificates::open(options.clone(), counts.clone()).unwrap();
    let came = |taken, refused| {
        followed.look();
        assert_eq!((counts.taken.load(Relaxed), counts.refused.load(Relaxed)), (taken, refused));
        counts.not_after.load(Relaxed)
    };
    let first = came(0, 0);
    // The new certificate comes before its key.
    std::fs::write(&options.cert, &other.cert).unwrap();
    assert_eq!((came(0, 1), came(0, 1)), (first, first), "told once");
    std::fs::write(&options.key, &other.key).unwrap();
    assert!(came(1, 1) > first);
    // Gone, empty, and back.
    std::fs::remove_file(&options.key).unwrap();
    came(1, 2);
    std::fs::write(&options.key, "").unwrap();
    came(1, 3);
    write(&options, &one.cert, &one.key);
    assert_eq!(came(2, 3), first);
    write(&options, &one.cert, &one.key);
    assert_eq!(came(2, 3), first, "the same content is no change");
}

#[test]
fn a_link_that_leads_elsewhere_is_a_change() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (pair("one"), pair("other"));
    for (name, pair) in [("..1", &one), ("..2", &other)] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        let options = options(&folder.path().join(name));
        write(&options, &pair.cert, &pair.key);
    }
    let point = |at: &str| {
        std::os::unix::fs::symlink(at, folder.path().join("..new")).unwrap();
        std::fs::rename(folder.path().join("..new"), folder.path().join("..data")).unwrap();
    };
    point("..1");
    let counts = Arc::new(Counts::default());
    let followed = Certificates::open(options(&folder.path().join("..data")), counts.clone()).unwrap();
    point("..2");
    followed.look();
    assert_eq!((counts.taken.load(Relaxed), counts.refused.load(Relaxed)), (1, 0));
}

#[test]
fn a_key_that_others_can_read_is_told_of() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "").unwrap();
    for (mode, is_open) in
        [(0o600, false), (0o400, false), (0o440, false), (0o644, true), (0o660, true), (0o604, true)]
    {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        let warning = open_to_others(&key);
        assert_eq!(warning.is_some(), is_open, "{mode:o}: {warning:?}");
    }
}

#[test]
fn a_certificate_says_who_it_is() {
    let hosts = ["camera-7", "10.0.0.7", "::1"].map(str::to_owned);
    let made = make_pair(&hosts, YEAR).unwrap();
    let read = certificates(Path::new("x"), made.cert.as_bytes()).unwrap();
    let peer = PeerCertificate::read(&read[0]).unwrap();
    assert_eq!(
        (peer.subject.as_deref(), peer.common_name.as_deref()),
        (Some("CN=camera-7"), Some("camera-7"))
    );
    assert_eq!(peer.sans, ["dns:camera-7", "ip:10.0.0.7", "ip:::1"]);
    assert_eq!(peer.fingerprint.len(), 64);
    assert!(make_pair(&["no name".to_owned(), "é".to_owned()], YEAR).is_err());
}

proptest! {
    #[test]
    fn no_bytes_break_the_readers(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let der = tokio_rustls::rustls::pki_types::CertificateDer::from(bytes.clone());
        prop_assert_eq!(PeerCertificate::read(&der), None);
        prop_assert!(not_after(&der).is_err());
        prop_assert!(certificates(Path::new("x"), &bytes).is_err());
        prop_assert!(private_key(Path::new("x"), &bytes).is_err());
    }

    #[test]
    fn a_changed_certificate_is_read_or_refused(at in 0_usize..300, byte in any::<u8>()) {
        let made = pair("one");
        let mut der = certificates(Path::new("x"), made.cert.as_bytes()).unwrap()[0].to_vec();
        let at = at % der.len();
        der[at] = byte;
        let der = tokio_rustls::rustls::pki_types::CertificateDer::from(der);
        if let Some(peer) = PeerCertificate::read(&der) {
            prop_assert!(!peer.subject.iter().flat_map(|subject| subject.chars()).any(char::is_control));
        }
    }
}
