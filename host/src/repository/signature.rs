//! Signatures of manifests, in minisign's format.
//!
//! Owns whose signatures count, and the refusals of what has none of theirs. It never signs and never
//! sees a secret key.

use std::path::Path;

use minisign_verify::{Error, PublicKey, Signature};

use super::files;
use super::manifest::{MANIFEST_FILE, SIGNATURE_FILE};

/// The largest signature file, in bytes.
pub(super) const LARGEST: u64 = 16 << 10;

/// The keys of those whose versions are served; none, and signatures do not count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedKeys(Vec<PublicKey>);

impl TrustedKeys {
    /// The keys of these texts, each the second line of a minisign public key file.
    ///
    /// # Errors
    /// The first that is no key.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let key = |text: &str| {
            PublicKey::from_base64(text)
                .map_err(|error| format!("'{text}' is no minisign public key: {error}"))
        };
        texts.into_iter().map(key).collect::<Result<_, _>>().map(Self)
    }

    /// Whether versions need a signature.
    pub fn required(&self) -> bool {
        !self.0.is_empty()
    }

    /// Holds a folder's signature against the bytes of its manifest. Without keys all is well.
    ///
    /// # Errors
    /// That the signature is missing, another's, or does not fit.
    pub(super) fn check(&self, folder: &Path, manifest: Option<&[u8]>) -> Result<(), String> {
        if !self.required() {
            return Ok(());
        }
        let place = folder.display();
        let Some(manifest) = manifest else {
            return Err(format!(
                "{place} is not signed, and repository.trusted_keys asks for it; publish it with --sign"
            ));
        };
        if !folder.join(SIGNATURE_FILE).exists() {
            return Err(format!(
                "{place} has no {SIGNATURE_FILE}, and repository.trusted_keys asks for one; publish it with --sign"
            ));
        }
        let path = files::real_path_within(folder, Path::new(SIGNATURE_FILE))?;
        let damaged = |reason: &str| format!("{} is no minisign signature: {reason}", path.display());
        let text = String::from_utf8(files::read_at_most(&path, LARGEST)?);
        let text = text.map_err(|_| damaged("it is not UTF-8"))?;
        let signature = Signature::decode(&text).map_err(|error| damaged(&error.to_string()))?;
        let outcomes = self.0.iter().map(|key| key.verify(manifest, &signature, false));
        let mut reason = "by a key that is not among repository.trusted_keys";
        for outcome in outcomes {
            match outcome {
                Ok(()) => return Ok(()),
                Err(Error::UnexpectedKeyId) => {}
                Err(Error::UnexpectedAlgorithm) => {
                    reason = "in minisign's legacy form; sign it again with a current minisign or --sign";
                }
                Err(_) => reason = "but does not fit it: one of the two files was altered",
            }
        }
        Err(format!("{place}: {MANIFEST_FILE} is signed {reason}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(folder: &Path, manifest: &[u8], pair: &minisign::KeyPair) {
        let signature = minisign::sign(None, &pair.sk, manifest, None, None).unwrap();
        std::fs::write(folder.join(SIGNATURE_FILE), signature.into_string()).unwrap();
    }

    #[test]
    fn only_listed_keys_over_these_bytes_count() {
        let pair = || minisign::KeyPair::generate_unencrypted_keypair().unwrap();
        let (ours, theirs, second) = (pair(), pair(), pair());
        let texts = [ours.pk.to_base64(), second.pk.to_base64()];
        let keys = TrustedKeys::parse(texts.iter().map(String::as_str)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let reason = |manifest: Option<&[u8]>| keys.check(folder.path(), manifest).unwrap_err();
        assert!(reason(None).contains("is not signed"));
        assert!(reason(Some(b"m")).contains("has no manifest.json.minisig"));
        for pair in [&ours, &second] {
            signed(folder.path(), b"m", pair);
            assert_eq!(keys.check(folder.path(), Some(b"m")), Ok(()));
            assert!(reason(Some(b"M")).contains("does not fit it"));
        }
        signed(folder.path(), b"m", &theirs);
        assert!(reason(Some(b"m")).contains("not among repository.trusted_keys"));
        std::fs::write(folder.path().join(SIGNATURE_FILE), "x\ny\n").unwrap();
        assert!(reason(Some(b"m")).contains("no minisign signature"));
        assert_eq!(TrustedKeys::default().check(folder.path(), None), Ok(()));
        assert!(TrustedKeys::parse(["RWx"]).unwrap_err().contains("'RWx' is no minisign public key"));
    }

    #[test]
    fn any_changed_byte_of_a_signature_that_matters_is_noticed() {
        let pair = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
        let key = pair.pk.to_base64();
        let keys = TrustedKeys::parse([key.as_str()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        signed(folder.path(), b"m", &pair);
        let path = folder.path().join(SIGNATURE_FILE);
        let text = std::fs::read(&path).unwrap();
        let first_line = text.iter().position(|&byte| byte == b'\n').unwrap();
        // The first line is a comment that nobody signs.
        for at in first_line..text.len() - 1 {
            let mut altered = text.clone();
            altered[at] ^= 1;
            std::fs::write(&path, &altered).unwrap();
            assert!(keys.check(folder.path(), Some(b"m")).is_err(), "byte {at}");
        }
    }
}
