use expect_test::expect;

use super::*;

const KEYS: [(&str, &str); 6] = [
    ("ed25519", include_str!("tests/ed25519.pem")),
    ("p256", include_str!("tests/p256.pem")),
    ("rsa-2048", include_str!("tests/rsa-2048.pem")),
    ("rsa-1024", include_str!("tests/rsa-1024.pem")),
    ("p384", include_str!("tests/p384.pem")),
    ("p256-compressed", include_str!("tests/p256-compressed.pem")),
];

#[test]
fn three_kinds_of_keys_are_read_and_no_other() {
    let mut shown = String::new();
    for (name, pem) in KEYS {
        match PublicKey::from_pem(pem) {
            Ok(key) => {
                assert_eq!(PublicKey::decode(&key.encoded()).as_ref(), Some(&key));
                shown += &format!("{name}: {}\n", key.algorithm().as_str());
            }
            Err(error) => shown += &format!("{name}: {error}\n"),
        }
    }
    expect![[r#"
        ed25519: ed25519
        p256: ecdsa-p256-sha256
        rsa-2048: rsa-pss-sha512
        rsa-1024: public key: expected Ed25519, P-256 with an uncompressed point, or RSA of 2048 to 8192 bits
        p384: public key: expected Ed25519, P-256 with an uncompressed point, or RSA of 2048 to 8192 bits
        p256-compressed: public key: expected Ed25519, P-256 with an uncompressed point, or RSA of 2048 to 8192 bits
    "#]].assert_eq(&shown);
}

#[test]
fn what_is_not_one_public_key_in_pem_is_refused_with_what_is_wanted() {
    let good = KEYS[0].1;
    for bad in [
        String::new(),
        good.replace("PUBLIC KEY", "CERTIFICATE"),
        good.replace("BEGIN", "BEGIM"),
        format!("{good}{good}"),
        format!("subject: me\n{good}"),
        good.replacen('M', "!", 1),
        format!("{good}{}", " \n".repeat(MAX_PEM_BYTES)),
    ] {
        let refused = PublicKey::from_pem(&bad).unwrap_err().to_string();
        assert!(refused.contains("-pubout"), "{bad}: {refused}");
    }
    let refused = PublicKey::from_pem(&good.replace("PUBLIC", "PRIVATE")).unwrap_err().to_string();
    assert!(refused.contains("this is a private key") && !refused.contains("MCow"), "{refused}");
}

#[test]
fn a_byte_more_or_less_makes_no_key() {
    for (name, pem) in &KEYS[..3] {
        let spki = PublicKey::from_pem(pem).unwrap().spki;
        assert!(PublicKey::from_spki(&spki[..spki.len() - 1]).is_err(), "{name}");
        assert!(PublicKey::from_spki(&[&spki[..], &[0]].concat()).is_err(), "{name}");
    }
    // No point of the curve.
    let mut spki = PublicKey::from_pem(KEYS[1].1).unwrap().spki;
    *spki.last_mut().unwrap() ^= 1;
    assert!(PublicKey::from_spki(&spki).is_err());
}
