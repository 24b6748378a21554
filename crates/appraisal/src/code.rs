//! The reason codes: stable, one for each way in which evidence or a join can be refused.

use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// Why something was refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The word in answers, records and documents.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }
        }
    };
}

codes! {
    /// The evidence is over the limit of its size.
    EvidenceTooLarge = "EVIDENCE_TOO_LARGE",
    /// The evidence cannot be read.
    EvidenceMalformed = "EVIDENCE_MALFORMED",
    /// Evidence of this kind is not taken in this mode.
    EvidenceKindForbidden = "EVIDENCE_KIND_FORBIDDEN",
    /// The launch ticket is no ticket for this instance, is used, or is too old.
    TicketInvalid = "TICKET_INVALID",
    /// The nonce was used before.
    NonceReplayed = "NONCE_REPLAYED",
    /// The nonce is older than 120 seconds.
    NonceExpired = "NONCE_EXPIRED",
    /// The nonce was given on another TLS connection.
    NonceChannelMismatch = "NONCE_CHANNEL_MISMATCH",
    /// The certificates do not lead to the root.
    ChainUntrusted = "CHAIN_UNTRUSTED",
    /// A signature is wrong.
    SignatureInvalid = "SIGNATURE_INVALID",
    /// A certificate is no longer valid.
    CertificateExpired = "CERTIFICATE_EXPIRED",
    /// A certificate is not valid yet.
    CertificateNotYetValid = "CERTIFICATE_NOT_YET_VALID",
    /// The platform's certificate is revoked.
    CertificateRevoked = "CERTIFICATE_REVOKED",
    /// The collateral is too old.
    CollateralExpired = "COLLATERAL_EXPIRED",
    /// The collateral is of an older evaluation of the vendor's than one that was seen already.
    CollateralOutdated = "COLLATERAL_OUTDATED",
    /// The collateral is from the future.
    CollateralNotYetValid = "COLLATERAL_NOT_YET_VALID",
    /// The collateral is that of another platform.
    CollateralMismatch = "COLLATERAL_MISMATCH",
    /// There is no revocation list.
    RevocationUnknown = "REVOCATION_UNKNOWN",
    /// The evidence is bound to something else.
    BindingMismatch = "BINDING_MISMATCH",
    /// The certificate request is for another key, or not signed by it.
    CsrKeyMismatch = "CSR_KEY_MISMATCH",
    /// The environment can be looked into by a debugger.
    EvidenceDebug = "EVIDENCE_DEBUG",
    /// No TCB level fits the platform.
    TcbUnmatched = "TCB_UNMATCHED",
    /// The policy does not accept the platform's TCB status.
    TcbNotAccepted = "TCB_NOT_ACCEPTED",
    /// The policy rejects an advisory that applies to the platform.
    AdvisoryRejected = "ADVISORY_REJECTED",
    /// The policy does not allow this hardware, or how it is set up.
    PlatformNotAllowed = "PLATFORM_NOT_ALLOWED",
    /// The policy wants a hardware id, and the evidence has none.
    PlatformUnidentified = "PLATFORM_UNIDENTIFIED",
    /// What runs is no release of the service.
    ReleaseNotAllowed = "RELEASE_NOT_ALLOWED",
    /// The service is not expected to have this replica.
    ReplicaNotExpected = "REPLICA_NOT_EXPECTED",
    /// The instance, certificate, measurement, platform or advisory is revoked.
    Revoked = "REVOKED",
    /// Another manifest came into force between challenge and join.
    ManifestChanged = "MANIFEST_CHANGED",
    /// Too many joins wait at the same time.
    JoinQuota = "JOIN_QUOTA",
    /// The authority's clock stepped back.
    ClockStepped = "CLOCK_STEPPED",
    /// The authority cannot use its store.
    AuthorityUnavailable = "AUTHORITY_UNAVAILABLE",
}

impl Code {
    /// Whether the same join may succeed later without anything of it being changed. Some others may be tried again by whoever
    /// is a member already: see [`Fault::is_retryable`](crate::Fault::is_retryable).
    pub fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::ManifestChanged | Self::JoinQuota | Self::ClockStepped | Self::AuthorityUnavailable
        )
    }
}

impl fmt::Display for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
