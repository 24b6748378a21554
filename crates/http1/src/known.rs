//! The header fields that the gateway looks at. A head notes where each of them stands, so that nobody searches.

/// Declares the names once: the variants, their text, and how a name is recognised.
macro_rules! known {
    ($($variant:ident = $text:literal,)*) => {
        const NAMES: &[&str] = &[$($text,)*];

        /// A header field that the gateway knows by name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Known {
            $(#[doc = concat!("`", $text, "`")] $variant,)*
        }

        impl Known {
            /// Every one of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name in lower case.
            pub fn name(self) -> &'static str {
                NAMES[self as usize]
            }
        }
    };
}

known! {
    Accept = "accept",
    AcceptEncoding = "accept-encoding",
    ApiKey = "apikey",
    Authorization = "authorization",
    CacheControl = "cache-control",
    Connection = "connection",
    ContentLength = "content-length",
    ContentType = "content-type",
    Cookie = "cookie",
    Date = "date",
    Expect = "expect",
    Forwarded = "forwarded",
    GrpcRetryPushbackMs = "grpc-retry-pushback-ms",
    GrpcStatus = "grpc-status",
    GrpcTimeout = "grpc-timeout",
    Host = "host",
    Http2Settings = "http2-settings",
    IdempotencyKey = "idempotency-key",
    KeepAlive = "keep-alive",
    ProxyAuthenticate = "proxy-authenticate",
    ProxyAuthorization = "proxy-authorization",
    ProxyConnection = "proxy-connection",
    Ratelimit = "ratelimit",
    RatelimitPolicy = "ratelimit-policy",
    RetryAfter = "retry-after",
    SecWebsocketAccept = "sec-websocket-accept",
    SecWebsocketKey = "sec-websocket-key",
    SecWebsocketVersion = "sec-websocket-version",
    Server = "server",
    Signature = "signature",
    SignatureInput = "signature-input",
    Te = "te",
    Traceparent = "traceparent",
    Tracestate = "tracestate",
    Trailer = "trailer",
    TransferEncoding = "transfer-encoding",
    Upgrade = "upgrade",
    UserAgent = "user-agent",
    Via = "via",
    XApiKey = "x-api-key",
    XForwardedFor = "x-forwarded-for",
    XForwardedHost = "x-forwarded-host",
    XForwardedPort = "x-forwarded-port",
    XForwardedPrefix = "x-forwarded-prefix",
    XForwardedProto = "x-forwarded-proto",
    XForwardedServer = "x-forwarded-server",
    XOriginalUrl = "x-original-url",
    XRatelimitLimit = "x-ratelimit-limit",
    XRatelimitRemaining = "x-ratelimit-remaining",
    XRatelimitReset = "x-ratelimit-reset",
    XRealIp = "x-real-ip",
    XRequestId = "x-request-id",
    XRequestTimeout = "x-request-timeout",
    XRewriteUrl = "x-rewrite-url",
}

/// The longest name among them, in bytes.
const LONGEST: usize = 22;

/// For each length and first letter the names in question, so that most names are told apart by one look.
static BY_LENGTH: [&[Known]; LONGEST + 1] = by_length();

const fn by_length() -> [&'static [Known]; LONGEST + 1] {
    let mut table: [&[Known]; LONGEST + 1] = [&[]; LONGEST + 1];
    table[2] = &[Known::Te];
    table[3] = &[Known::Via];
    table[4] = &[Known::Host, Known::Date];
    table[6] = &[Known::Accept, Known::Cookie, Known::ApiKey, Known::Server, Known::Expect];
    table[7] = &[Known::Trailer, Known::Upgrade];
    table[9] = &[Known::XApiKey, Known::Forwarded, Known::XRealIp, Known::Ratelimit, Known::Signature];
    table[10] = &[Known::UserAgent, Known::Connection, Known::KeepAlive, Known::Tracestate];
    table[11] = &[Known::Traceparent, Known::GrpcStatus, Known::RetryAfter];
    table[12] = &[Known::ContentType, Known::XRequestId, Known::GrpcTimeout];
    table[13] = &[Known::Authorization, Known::CacheControl, Known::XRewriteUrl];
    table[14] = &[Known::ContentLength, Known::Http2Settings, Known::XOriginalUrl];
    table[15] = &[Known::AcceptEncoding, Known::XForwardedFor, Known::IdempotencyKey, Known::SignatureInput];
    table[16] =
        &[Known::XForwardedHost, Known::XForwardedPort, Known::ProxyConnection, Known::RatelimitPolicy];
    table[17] = &[
        Known::XForwardedProto,
        Known::TransferEncoding,
        Known::SecWebsocketKey,
        Known::XRequestTimeout,
        Known::XRatelimitLimit,
        Known::XRatelimitReset,
    ];
    table[18] = &[Known::ProxyAuthenticate, Known::XForwardedPrefix, Known::XForwardedServer];
    table[19] = &[Known::ProxyAuthorization];
    table[20] = &[Known::SecWebsocketAccept];
    table[21] = &[Known::SecWebsocketVersion, Known::XRatelimitRemaining];
    table[22] = &[Known::GrpcRetryPushbackMs];
    table
}

impl Known {
    /// The field of that name, a token in any case.
    pub fn of(name: &[u8]) -> Option<Self> {
        let candidates = BY_LENGTH.get(name.len())?;
        // In a token this bit tells upper case from lower case, and nothing else that stands in one of these names.
        let lower = |byte: &u8| byte | 0x20;
        candidates.iter().copied().find(|known| {
            let own = known.name().as_bytes();
            own[0] == lower(&name[0]) && own.iter().zip(name).all(|(own, byte)| *own == lower(byte))
        })
    }

    /// Whether it always belongs to the connection and never to the message (RFC 9110 section 7.6.1).
    pub(crate) fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::Http2Settings
                | Self::KeepAlive
                | Self::ProxyAuthenticate
                | Self::ProxyAuthorization
                | Self::ProxyConnection
                | Self::Te
                | Self::TransferEncoding
                | Self::Upgrade
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_any_case_and_no_other() {
        for known in Known::ALL {
            assert_eq!(Known::of(known.name().as_bytes()), Some(*known), "{}", known.name());
            assert_eq!(Known::of(known.name().to_ascii_uppercase().as_bytes()), Some(*known));
            assert_eq!(Known::of(format!("{}x", known.name()).as_bytes()), None);
        }
        for other in ["", "x", "hosts", "content_length", &"a".repeat(100)] {
            assert_eq!(Known::of(other.as_bytes()), None, "{other}");
        }
    }
}
