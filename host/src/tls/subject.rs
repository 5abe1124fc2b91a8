//! A certificate's subject as a text.
//!
//! Owns that two subjects never have one text: what separates parts of a name is escaped where it is part of a value, as
//! RFC 4514 has it. What cannot be told exactly is not told.

use std::fmt::Write as _;

use x509_parser::asn1_rs::{Any, BmpString, Tag};
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// The longest text, in bytes.
const LONGEST: usize = 1024;

/// The subject, as RFC 4514 escapes it but in the certificate's order: `C=DE, O=Acme, CN=camera-7`. `None` if a value is
/// no text, or if all of it is too long.
pub(super) fn subject(name: &X509Name<'_>) -> Option<String> {
    let mut text = String::new();
    for (number, part) in name.iter_rdn().enumerate() {
        for (within, attribute) in part.iter().enumerate() {
            text.push_str(match (number, within) {
                (0, 0) => "",
                (_, 0) => ", ",
                _ => " + ",
            });
            push(&mut text, attribute)?;
        }
    }
    (text.len() <= LONGEST).then_some(text)
}

fn push(text: &mut String, attribute: &AttributeTypeAndValue<'_>) -> Option<()> {
    let kind = attribute.attr_type();
    match oid2abbrev(kind, oid_registry()) {
        Ok(name) => text.push_str(name),
        Err(_) => text.push_str(&kind.to_id_string()),
    }
    text.push('=');
    escape(text, &value(attribute.attr_value())?);
    Some(())
}

/// A value that is a text, whatever its encoding; others are looked at by nobody.
fn value(value: &Any<'_>) -> Option<String> {
    let text = match value.tag() {
        Tag::Utf8String => str::from_utf8(value.data).ok()?.to_owned(),
        Tag::BmpString => BmpString::try_from(value.clone()).ok()?.string(),
        // Their characters beyond ASCII are a matter of opinion.
        Tag::NumericString | Tag::PrintableString | Tag::VisibleString | Tag::Ia5String | Tag::T61String => {
            value.data.is_ascii().then(|| str::from_utf8(value.data).ok()).flatten()?.to_owned()
        }
        _ => return None,
    };
    Some(text)
}

fn escape(text: &mut String, value: &str) {
    let last = value.chars().count().saturating_sub(1);
    for (at, character) in value.chars().enumerate() {
        match character {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=' => text.extend(['\\', character]),
            ' ' if at == 0 || at == last => text.push_str("\\ "),
            '#' if at == 0 => text.push_str("\\#"),
            character if character.is_control() => {
                for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                    // Writing to a text does not fail.
                    let _ = write!(text, "\\{byte:02X}");
                }
            }
            character => text.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};

    use super::super::PeerCertificate;
    use super::*;

    fn subject_of(parts: &[(DnType, DnValue)]) -> Option<String> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in parts {
            params.distinguished_name.push(kind.clone(), value.clone());
        }
        static KEY: std::sync::OnceLock<KeyPair> = std::sync::OnceLock::new();
        let made = params.self_signed(KEY.get_or_init(|| KeyPair::generate().unwrap())).unwrap();
        PeerCertificate::read(made.der()).unwrap().subject
    }

    fn common(value: &str) -> (DnType, DnValue) {
        (DnType::CommonName, DnValue::Utf8String(value.to_owned()))
    }

    #[test]
    fn no_value_passes_for_more_than_one() {
        let organisation = (DnType::OrganizationName, DnValue::Utf8String("Ops".to_owned()));
        let two = subject_of(&[common("bob"), organisation]).unwrap();
        assert_eq!(two, "CN=bob, O=Ops");
        assert_eq!(subject_of(&[common("bob, O=Ops")]).unwrap(), "CN=bob\\, O\\=Ops");
        assert_eq!(subject_of(&[common("x + CN=y")]).unwrap(), "CN=x \\+ CN\\=y");
        assert_eq!(subject_of(&[common(" #a\\\0é ")]).unwrap(), "CN=\\ #a\\\\\\00é\\ ");
        assert_eq!(subject_of(&[common("#a")]).unwrap(), "CN=\\#a");
        assert_eq!(subject_of(&[common("")]).unwrap(), "CN=");
        assert_eq!(subject_of(&[]).unwrap(), "");
    }

    #[test]
    fn what_cannot_be_told_exactly_is_not_told() {
        assert_eq!(subject_of(&[common(&"x".repeat(LONGEST))]), None);
        let universal = rcgen::string::UniversalString::try_from("bob").unwrap();
        assert_eq!(subject_of(&[(DnType::CommonName, DnValue::UniversalString(universal))]), None);
        let wide = rcgen::string::BmpString::try_from("bob").unwrap();
        assert_eq!(subject_of(&[(DnType::CommonName, DnValue::BmpString(wide))]).unwrap(), "CN=bob");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn two_names_never_have_one_text(
            one in "[ab,+=\\\\# \"O\u{0}]{0,8}", other in "[ab,+=\\\\# \"O\u{0}]{0,8}",
        ) {
            let texts = [&one, &other].map(|value| subject_of(&[common(value)]).unwrap());
            prop_assert_eq!(texts[0] == texts[1], one == other);
        }
    }
}
