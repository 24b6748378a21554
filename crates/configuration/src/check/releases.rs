//! Releases: what each kind of evidence measures of them, and that no two services of the file accept the same.

use std::collections::BTreeMap;

use super::Checker;
use crate::raw::{RawNitro, RawRelease, RawSevSnp, RawSgx, RawTdx};
use crate::report::Origin;
use crate::scalar::{Field, Spanned, Text, Whole, quoted};
use crate::settings::{Measurement, ReleaseSettings, Releases, SgxRelease};

/// ISVPRODID and ISVSVN are 16 bits long (the SECS in the Intel SDM, volume 3D).
const MAX_OF_16_BITS: i128 = 0xffff;
/// SHA-256.
const DIGEST: usize = 32;
/// SHA-384.
const LONG_DIGEST: usize = 48;

/// What the releases of the file so far accept.
#[derive(Debug, Default)]
pub(super) struct ReleaseTable {
    owners: BTreeMap<Accepted, Owner>,
}

/// What evidence shows of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Accepted {
    Workload(Measurement),
    Enclave(Measurement),
    Product(Measurement, u16),
}

#[derive(Debug)]
struct Owner {
    /// The key of the service, such as `services.vrf`.
    service: String,
    /// The key of the release.
    key: String,
    origin: Origin,
}

impl Accepted {
    fn key(self) -> &'static str {
        match self {
            Self::Workload(_) => "simulated.w",
            Self::Enclave(_) => "sgx.mrenclave",
            Self::Product(..) => "sgx.mrsigner",
        }
    }

    /// Fits after "accepts the same", and what to do then.
    fn shown(self) -> (&'static str, &'static str) {
        match self {
            Self::Workload(_) => ("W", "the name of the service is part of W: take the one of this service"),
            Self::Enclave(_) => ("enclave", "an enclave belongs to one service"),
            Self::Product(..) => ("mrsigner and prodId", "give each service a prodId of its own"),
        }
    }
}

impl Checker {
    pub(super) fn releases(
        &mut self,
        service: &str,
        key: &str,
        written: Option<Spanned<Vec<Spanned<RawRelease>>>>,
        table: &mut ReleaseTable,
    ) -> Releases {
        let Some(written) = written else { return Releases::Measured };
        if written.value.is_empty() {
            let help = "write `[{version: 1.0.0, sgx: {mrenclave: …}}]`; in development, leave it out for what is measured at each start";
            let message = format!("{key}: expected at least one release");
            self.wrong(written.referenced.into(), message, Some(help.to_owned()));
        }
        let numbered = written.value.into_iter().enumerate();
        let releases = numbered.map(|(index, raw)| {
            let key = format!("{key}[{index}]");
            let origin = Origin::from(raw.referenced);
            let (release, accepted) = self.release(&key, origin, raw.value);
            for (accepted, origin) in accepted {
                let key = format!("{key}.{}", accepted.key());
                self.accept(accepted, Owner { service: service.to_owned(), key, origin }, table);
            }
            release
        });
        Releases::Listed(releases.collect())
    }

    /// The release, and what it accepts with the place of each.
    fn release(
        &mut self,
        key: &str,
        origin: Origin,
        raw: RawRelease,
    ) -> (ReleaseSettings, Vec<(Accepted, Origin)>) {
        let RawRelease { version, simulated, sgx, tdx, sev_snp, nitro } = raw;
        let kinds = [simulated.is_some(), sgx.is_some(), tdx.is_some(), sev_snp.is_some(), nitro.is_some()];
        if !kinds.contains(&true) {
            let message = format!("{key}: a release needs what evidence shows of it");
            self.wrong(origin, message, Some("write `sgx: {mrenclave: …}` beside the version".to_owned()));
        }
        let version = match version {
            Some(version) => self.version(&format!("{key}.version"), version),
            None => {
                let message = format!("{key}.version: a release needs the label of its version");
                self.wrong(origin, message, Some("write `version: 1.0.0`".to_owned()));
                String::new()
            }
        };
        if let Some(written) = &simulated
            && self.is_production()
        {
            self.wrong(
                written.referenced.into(),
                format!("{key}.simulated: simulated evidence proves nothing, and production takes none"),
                Some("leave it out".to_owned()),
            );
        }
        let mut accepted = Vec::new();
        let simulated = simulated.and_then(|written| {
            let parent = Origin::from(written.referenced);
            let (digest, origin) =
                self.needed_digest(&format!("{key}.simulated.w"), parent, written.value.w)?;
            accepted.push((Accepted::Workload(digest), origin));
            Some(digest)
        });
        let sgx = sgx.and_then(|written| {
            let (sgx, origin) = self.sgx(&format!("{key}.sgx"), written.referenced.into(), written.value)?;
            let accepts = match sgx {
                SgxRelease::Enclave(enclave) => Accepted::Enclave(enclave),
                SgxRelease::Signer { signer, product, .. } => Accepted::Product(signer, product),
            };
            accepted.push((accepts, origin));
            Some(sgx)
        });
        self.kinds_of_later_versions(key, tdx, sev_snp, nitro);
        (ReleaseSettings { version, simulated, sgx }, accepted)
    }

    fn kinds_of_later_versions(
        &mut self,
        key: &str,
        tdx: Option<Spanned<RawTdx>>,
        sev_snp: Option<Spanned<RawSevSnp>>,
        nitro: Option<Spanned<RawNitro>>,
    ) {
        if let Some(Spanned { value: raw, referenced, .. }) = tdx {
            let registers = [raw.rtmr0, raw.rtmr1, raw.rtmr2, raw.rtmr3];
            let registers = registers.into_iter().enumerate().map(|(at, text)| (format!("rtmr{at}"), text));
            let fields = std::iter::once(("mrtd".to_owned(), raw.mrtd)).chain(registers);
            self.without_verifier(key, "tdx", referenced.into(), fields);
        }
        if let Some(Spanned { value: raw, referenced, .. }) = sev_snp {
            let field = ("measurement".to_owned(), raw.measurement);
            self.without_verifier(key, "sevSnp", referenced.into(), [field]);
        }
        if let Some(Spanned { value: raw, referenced, .. }) = nitro {
            let registers =
                [raw.pcr0, raw.pcr1, raw.pcr2, raw.pcr3, raw.pcr4, raw.pcr5, raw.pcr6, raw.pcr7, raw.pcr8];
            let fields = registers.into_iter().enumerate().map(|(at, text)| (format!("pcr{at}"), text));
            self.without_verifier(key, "nitro", referenced.into(), fields);
        }
    }

    /// What is known of its form is said too, so that it can be written today and left commented out.
    fn without_verifier(
        &mut self,
        key: &str,
        kind: &str,
        origin: Origin,
        fields: impl IntoIterator<Item = (String, Option<Text>)>,
    ) {
        let message = format!("{key}.{kind}: this version has no verifier for {kind}");
        self.wrong(origin, message, Some("leave it out".to_owned()));
        for (name, text) in fields {
            if let Some(text) = text {
                self.digest::<LONG_DIGEST>(&format!("{key}.{kind}.{name}"), &text);
            }
        }
    }

    /// What is accepted, and where it stands.
    fn sgx(&mut self, key: &str, parent: Origin, raw: RawSgx) -> Option<(SgxRelease, Origin)> {
        let RawSgx { mrenclave, mrsigner, prod_id, min_svn } = raw;
        match (mrenclave, mrsigner) {
            (Some(enclave), None) => {
                let beside = [("prodId", prod_id), ("minSvn", min_svn)];
                for (name, field) in beside.into_iter().filter_map(|(name, field)| Some((name, field?))) {
                    let message = format!("{key}.{name}: an mrenclave is one enclave already");
                    self.wrong(field.origin, message, Some(format!("leave `{name}` out")));
                }
                let digest = self.digest(&format!("{key}.mrenclave"), &enclave)?;
                Some((SgxRelease::Enclave(Measurement(digest)), enclave.origin))
            }
            (None, Some(signer)) => self.products_of(key, &signer, prod_id, min_svn),
            (Some(_), Some(signer)) => {
                let message = format!("{key}: a release is one enclave or those of a signer, not both");
                let help = "write two releases, or keep one of the two";
                self.wrong(signer.origin, message, Some(help.to_owned()));
                None
            }
            (None, None) => {
                let message = format!("{key}: expected `mrenclave`, or `mrsigner`, `prodId` and `minSvn`");
                self.wrong(parent, message, None);
                None
            }
        }
    }

    /// A product of a signer, from a version on.
    fn products_of(
        &mut self,
        key: &str,
        signer: &Text,
        prod_id: Option<Field<Whole>>,
        min_svn: Option<Field<Whole>>,
    ) -> Option<(SgxRelease, Origin)> {
        let before = self.findings.len();
        let digest = self.digest(&format!("{key}.mrsigner"), signer);
        let mut number = |name: &str, field: Option<Field<Whole>>, least, why: &str| {
            let key = format!("{key}.{name}");
            let Some(field) = field else {
                self.wrong(signer.origin, format!("{key}: {why}"), Some(format!("write `{name}: 1`")));
                return None;
            };
            u16::try_from(self.whole(&key, field, least..=MAX_OF_16_BITS)).ok()
        };
        let product =
            number("prodId", prod_id, 1, "a signer has many products, and mrsigner needs one of them");
        let least_version = number("minSvn", min_svn, 0, "mrsigner needs the least version that is accepted");
        // A wrong number is no product that another service could have too.
        let signer_digest = digest.filter(|_| self.findings.len() == before).map(Measurement)?;
        let release =
            SgxRelease::Signer { signer: signer_digest, product: product?, least_version: least_version? };
        Some((release, signer.origin))
    }

    fn needed_digest(
        &mut self,
        key: &str,
        parent: Origin,
        text: Option<Text>,
    ) -> Option<(Measurement, Origin)> {
        let Some(text) = text else {
            let message = format!("{key}: expected {} hexadecimal digits, found nothing", DIGEST * 2);
            self.wrong(parent, message, None);
            return None;
        };
        Some((Measurement(self.digest(key, &text)?), text.origin))
    }

    fn digest<const BYTES: usize>(&mut self, key: &str, text: &Text) -> Option<[u8; BYTES]> {
        let digest = from_hex(&text.value);
        if digest.is_none() {
            let (digits, found) = (BYTES * 2, text.value.chars().count());
            let message =
                format!("{key}: expected {digits} hexadecimal digits, found {}", quoted(&text.value));
            let help = (found != digits).then(|| format!("its length is {found}"));
            self.wrong(text.origin, message, help);
        }
        digest
    }

    fn accept(&mut self, accepted: Accepted, owner: Owner, table: &mut ReleaseTable) {
        let Some(other) = table.owners.get(&accepted) else {
            table.owners.insert(accepted, owner);
            return;
        };
        let (key, origin) = (&owner.key, owner.origin);
        if other.service == owner.service {
            let message = format!("{key}: this release is written already ({})", other.origin);
            self.wrong(origin, message, Some("keep one of the two".to_owned()));
            return;
        }
        let (what, help) = accepted.shown();
        let message = format!(
            "{key}: POLICY_RELEASE_AMBIGUOUS: {} ({}) accepts the same {what}, so that evidence would not say which of the two services runs",
            other.key, other.origin
        );
        self.wrong(origin, message, Some(help.to_owned()));
    }
}

fn from_hex<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    if text.len() != BYTES * 2 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; BYTES];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[index * 2..][..2], 16).ok()?;
    }
    Some(bytes)
}
