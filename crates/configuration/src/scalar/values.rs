//! Numbers with and without a unit, durations, sizes and addresses.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use serde_json::{Value, json};
use types::{ByteSize, duration};

use super::{Scalar, Shape, text_of};
use crate::settings::{Cpus, Percent, Rate};

/// A whole number of any size; its range is the check's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Whole(pub(crate) i128);

impl Scalar for Whole {
    const NAME: &'static str = "WholeNumber";
    const EXPECTED: &'static str = "a whole number";

    fn read(shape: &Shape) -> Option<Self> {
        if let Shape::Whole(value) = shape { Some(Self(*value)) } else { None }
    }

    fn written(&self) -> Value {
        i64::try_from(self.0).map_or_else(|_| self.0.to_string().into(), Value::from)
    }

    fn schema() -> Value {
        json!({"type": "integer"})
    }

    fn help(shape: &Shape) -> Option<String> {
        let Shape::Text(text) = shape else { return None };
        text.parse::<i128>().ok().map(|number| format!("take the quotes off: {number}"))
    }
}

/// A number that may have a fraction; its range is the check's business.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ratio(pub(crate) f64);

impl Scalar for Ratio {
    const NAME: &'static str = "Number";
    const EXPECTED: &'static str = "a number";

    fn read(shape: &Shape) -> Option<Self> {
        match shape {
            Shape::Whole(number) => Some(Self(*number as f64)),
            Shape::Fraction(number) if number.is_finite() => Some(Self(*number)),
            _ => None,
        }
    }

    /// 2.0 is 2.
    fn written(&self) -> Value {
        let whole = self.0 as i64;
        if whole as f64 == self.0 { whole.into() } else { self.0.into() }
    }

    fn schema() -> Value {
        json!({"type": "number"})
    }

    fn help(shape: &Shape) -> Option<String> {
        let Shape::Text(text) = shape else { return None };
        text.parse::<f64>().ok().map(|_| format!("take the quotes off: {text}"))
    }
}

impl Scalar for bool {
    const NAME: &'static str = "Boolean";
    const EXPECTED: &'static str = "true or false";

    fn read(shape: &Shape) -> Option<Self> {
        if let Shape::Bool(value) = shape { Some(*value) } else { None }
    }

    fn written(&self) -> Value {
        (*self).into()
    }

    fn schema() -> Value {
        json!({"type": "boolean"})
    }

    fn help(shape: &Shape) -> Option<String> {
        let Shape::Text(text) = shape else { return None };
        match text.to_ascii_lowercase().as_str() {
            "yes" | "on" | "y" | "true" => Some("write true".to_owned()),
            "no" | "off" | "n" | "false" => Some("write false".to_owned()),
            _ => None,
        }
    }
}

impl Scalar for Duration {
    const NAME: &'static str = "Duration";
    const EXPECTED: &'static str = "a duration such as 500ms, 10s or 5m";

    fn read(shape: &Shape) -> Option<Self> {
        if let Shape::Text(text) = shape { duration::parse(text) } else { None }
    }

    fn written(&self) -> Value {
        duration::text(*self).into()
    }

    fn schema() -> Value {
        let mut schema = text_of("^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$");
        schema["minLength"] = 2.into();
        schema
    }

    fn help(shape: &Shape) -> Option<String> {
        let units = "the units are ms, s, m, h and d, the largest first, as in 1m30s";
        match shape {
            Shape::Whole(number @ 0..) => {
                Some(format!("add a unit: {number}s for seconds, {number}ms for milliseconds"))
            }
            Shape::Text(_) | Shape::Fraction(_) | Shape::Whole(_) => Some(units.to_owned()),
            _ => None,
        }
    }
}

impl Scalar for ByteSize {
    const NAME: &'static str = "Size";
    const EXPECTED: &'static str = "a size such as 512B, 64KiB or 1MiB";

    fn read(shape: &Shape) -> Option<Self> {
        if let Shape::Text(text) = shape { text.parse().ok() } else { None }
    }

    fn written(&self) -> Value {
        self.to_string().into()
    }

    fn schema() -> Value {
        text_of("^[0-9]+(B|KiB|MiB|GiB)$")
    }

    fn help(shape: &Shape) -> Option<String> {
        match shape {
            Shape::Whole(number @ 0..) => {
                Some(format!("add a unit: {number}B for bytes, {number}KiB for 1,024 bytes each"))
            }
            Shape::Text(_) => {
                Some("the units are B, KiB, MiB and GiB, right after a whole number".to_owned())
            }
            _ => None,
        }
    }
}

/// The most processors, in thousandths.
const MAX_CPUS: f64 = 1_024_000.0;

impl Scalar for Cpus {
    const NAME: &'static str = "Processors";
    const EXPECTED: &'static str = "a number of processors from 0.01 to 1024, such as 2 or 1.5";

    fn read(shape: &Shape) -> Option<Self> {
        let number = match shape {
            Shape::Whole(number) => f64::from(u32::try_from(*number).ok()?),
            Shape::Fraction(number) => *number,
            _ => return None,
        };
        let thousandths = (number * 1000.0).round();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the range was looked at"
        )]
        (10.0..=MAX_CPUS).contains(&thousandths).then_some(Self(thousandths as u32))
    }

    fn written(&self) -> Value {
        if self.0.is_multiple_of(1000) { (self.0 / 1000).into() } else { (f64::from(self.0) / 1000.0).into() }
    }

    fn schema() -> Value {
        json!({"type": "number", "minimum": 0.01, "maximum": 1024})
    }

    fn help(shape: &Shape) -> Option<String> {
        let Shape::Text(text) = shape else { return None };
        if let Some(milli) = text.strip_suffix('m').and_then(|number| number.parse::<u32>().ok()) {
            return Some(format!(
                "write {} for {milli} thousandths of a processor",
                f64::from(milli) / 1000.0
            ));
        }
        text.parse::<f64>().ok().map(|number| format!("take the quotes off: {number}"))
    }
}

impl Scalar for SocketAddr {
    const NAME: &'static str = "Address";
    const EXPECTED: &'static str = "an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080";

    fn read(shape: &Shape) -> Option<Self> {
        if let Shape::Text(text) = shape { text.parse().ok() } else { None }
    }

    fn written(&self) -> Value {
        self.to_string().into()
    }

    fn schema() -> Value {
        text_of(r"^([0-9.]+|\[[0-9A-Fa-f:.]+(%[0-9]+)?\]):[0-9]{1,5}$")
    }

    fn help(shape: &Shape) -> Option<String> {
        match shape {
            Shape::Whole(port @ 0..=65_535) => Some(format!("write \"127.0.0.1:{port}\"")),
            Shape::Text(text) => {
                let port = text.strip_prefix("localhost:").or_else(|| text.strip_prefix(':'))?;
                port.parse::<u16>().ok().map(|port| format!("write \"127.0.0.1:{port}\""))
            }
            _ => None,
        }
    }
}

/// The bits before an IPv4 address that is written in IPv6.
const MAPPED_PREFIX_BITS: u8 = 96;

impl Scalar for IpNet {
    const NAME: &'static str = "Network";
    const EXPECTED: &'static str = "a network such as 10.0.0.0/8 or fd00::/8, or an IP address";

    fn read(shape: &Shape) -> Option<Self> {
        let Shape::Text(text) = shape else { return None };
        let network = network(text)?;
        (network.trunc() == network && unmapped(network).is_none()).then_some(network)
    }

    fn written(&self) -> Value {
        self.to_string().into()
    }

    fn schema() -> Value {
        text_of("^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$")
    }

    fn help(shape: &Shape) -> Option<String> {
        let Shape::Text(text) = shape else { return None };
        let network = network(text)?;
        if let Some(unmapped) = unmapped(network) {
            let alone = unmapped.prefix_len() == unmapped.max_prefix_len();
            let plain = if alone { unmapped.addr().to_string() } else { unmapped.trunc().to_string() };
            return Some(format!("a client over IPv4 is known by its IPv4 address: write {plain}"));
        }
        Some(format!(
            "the network that {} lies in is {}; the address alone is {0}",
            network.addr(),
            network.trunc()
        ))
    }
}

/// An address alone is a network of itself.
fn network(text: &str) -> Option<IpNet> {
    text.parse::<IpAddr>().map(IpNet::from).ok().or_else(|| text.parse().ok())
}

/// The IPv4 network that is written in IPv6 (RFC 4291, section 2.5.5.2), which no client would ever be found in.
fn unmapped(network: IpNet) -> Option<IpNet> {
    let IpNet::V6(network) = network else { return None };
    let address = network.addr().to_ipv4_mapped()?;
    IpNet::new(address.into(), network.prefix_len().checked_sub(MAPPED_PREFIX_BITS)?).ok()
}

/// What a rate may be counted over, in seconds.
const PERIODS: [(&str, u64); 4] = [("s", 1), ("min", 60), ("h", 3_600), ("d", 86_400)];

impl Scalar for Rate {
    const NAME: &'static str = "Rate";
    const EXPECTED: &'static str = "a rate such as 10/s, 600/min, 5000/h or 100000/d";

    fn read(shape: &Shape) -> Option<Self> {
        let Shape::Text(text) = shape else { return None };
        let (count, unit) = text.split_once('/')?;
        let (_, seconds) = PERIODS.into_iter().find(|(name, _)| *name == unit)?;
        let digits = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
        let count: u32 = count.parse().ok().filter(|_| digits)?;
        (1..=Self::MAX_COUNT).contains(&count).then_some(Self { count, per: Duration::from_secs(seconds) })
    }

    fn written(&self) -> Value {
        let unit = PERIODS.into_iter().find(|(_, seconds)| *seconds == self.per.as_secs());
        format!("{}/{}", self.count, unit.map_or("s", |(name, _)| name)).into()
    }

    fn schema() -> Value {
        text_of("^0*[1-9][0-9]*/(s|min|h|d)$")
    }

    fn help(shape: &Shape) -> Option<String> {
        match shape {
            Shape::Whole(number @ 1..) => {
                Some(format!("add a unit: {number}/s for each second, {number}/min for each minute"))
            }
            Shape::Text(_) | Shape::Whole(_) | Shape::Fraction(_) => {
                Some("write a whole number from 1 to 1000000000, a slash, and s, min, h or d".to_owned())
            }
            _ => None,
        }
    }
}

impl Scalar for Percent {
    const NAME: &'static str = "Percentage";
    const EXPECTED: &'static str = "a whole percentage from 0% to 100%";

    fn read(shape: &Shape) -> Option<Self> {
        let Shape::Text(text) = shape else { return None };
        let number = text.strip_suffix('%')?;
        let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        number.parse().ok().filter(|_| digits).and_then(Self::new)
    }

    fn written(&self) -> Value {
        self.to_string().into()
    }

    fn schema() -> Value {
        text_of("^0*(100|[1-9]?[0-9])%$")
    }

    fn help(shape: &Shape) -> Option<String> {
        match shape {
            Shape::Whole(number @ 0..=100) => Some(format!("add the sign: {number}%")),
            Shape::Fraction(part) if (0.0..1.0).contains(part) => {
                let percent = part * 100.0;
                let whole = (percent - percent.round()).abs() < 1e-6;
                whole.then(|| format!("write {percent:.0}% for that part of the whole"))
            }
            _ => None,
        }
    }
}
