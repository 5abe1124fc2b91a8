//! The secret key of who publishes.
//!
//! Owns reading a minisign key and its password. A key is held only while a publish runs; it never goes
//! into a host that serves.

use std::io::IsTerminal as _;
use std::path::Path;

use minisign::{SecretKey, SecretKeyBox};

/// Reads a secret key. An encrypted one needs its password: from a file, or from the terminal if that
/// may be asked.
pub(super) fn open(file: &Path, password: Option<&Path>, ask: bool) -> Result<SecretKey, String> {
    let text = read(file)?;
    let key = || SecretKeyBox::from_string(&text);
    let refused = |error: minisign::PError| format!("{} cannot be used: {error}", file.display());
    if let Ok(plain) = key().and_then(SecretKeyBox::into_unencrypted_secret_key) {
        return Ok(plain);
    }
    let password = match password {
        Some(password) => Some(read(password)?.trim_end_matches(['\r', '\n']).to_owned()),
        None if ask && std::io::stdin().is_terminal() && std::io::stdout().is_terminal() => None,
        None => {
            return Err(format!(
                "{} is encrypted, or no minisign secret key; name its password with --password-file",
                file.display()
            ));
        }
    };
    key().and_then(|key| key.into_secret_key(password)).map_err(refused)
}

/// The signature of a manifest's text, as its file has it.
pub(super) fn sign(key: &SecretKey, text: &str) -> Result<String, String> {
    let signed = minisign::sign(None, key, text.as_bytes(), None, Some("signature of manifest.json"));
    match signed {
        Ok(signature) => Ok(signature.into_string()),
        Err(error) => Err(format!("{} cannot be signed: {error}", crate::repository::MANIFEST_FILE)),
    }
}

fn read(file: &Path) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|error| format!("{} cannot be read: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_and_encrypted_keys_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let plain = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
        std::fs::write(path("plain"), plain.sk.to_box(None).unwrap().into_string()).unwrap();
        let key = open(&path("plain"), None, false).unwrap();
        let signature = sign(&key, "text").unwrap();
        let signature = minisign_verify::Signature::decode(&signature).unwrap();
        let public = minisign_verify::PublicKey::from_base64(&plain.pk.to_base64()).unwrap();
        assert!(public.verify(b"text", &signature, false).is_ok());

        let secret = minisign::KeyPair::generate_encrypted_keypair(Some("word".to_owned())).unwrap();
        std::fs::write(path("secret"), secret.sk.to_box(None).unwrap().into_string()).unwrap();
        std::fs::write(path("right"), "word\n").unwrap();
        std::fs::write(path("wrong"), "world\n").unwrap();
        assert!(open(&path("secret"), Some(&path("right")), false).is_ok());
        let refused = |password: Option<&Path>| open(&path("secret"), password, false).unwrap_err();
        assert!(refused(Some(&path("wrong"))).contains("Wrong password"));
        assert!(refused(None).contains("--password-file"));
        assert!(refused(Some(&path("none"))).contains("none cannot be read"));
        std::fs::write(path("text"), "no key").unwrap();
        assert!(open(&path("text"), Some(&path("right")), false).unwrap_err().contains("cannot be used"));
    }
}
