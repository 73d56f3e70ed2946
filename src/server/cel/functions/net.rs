//! Addresses and ranges of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Library, text};
use crate::server::cel::EvalError;
use crate::server::cel::opaque::{Cidr, Opaque};
use crate::server::cel::value::Value;

pub(super) const LIBRARY: Library = &[
    ("string_to_ip ip string > ip", |a| parse_ip(text(a, 0)?).map(|ip| Value::opaque(Opaque::Ip(ip)))),
    ("is_ip isIP string > bool", |a| Ok(Value::Bool(parse_ip(text(a, 0)?).is_ok()))),
    ("ip_is_canonical ip.isCanonical string > bool", |a| {
        let text = text(a, 0)?;
        Ok(Value::Bool(parse_ip(text)?.to_string() == text))
    }),
    ("ip_family .family ip > int", |a| Ok(Value::Int(if ip(a, 0)?.is_ipv4() { 4 } else { 6 }))),
    ("ip_is_unspecified .isUnspecified ip > bool", |a| Ok(Value::Bool(ip(a, 0)?.is_unspecified()))),
    ("ip_is_loopback .isLoopback ip > bool", |a| Ok(Value::Bool(ip(a, 0)?.is_loopback()))),
    ("ip_is_link_local_multicast .isLinkLocalMulticast ip > bool", |a| {
        Ok(Value::Bool(match ip(a, 0)? {
            IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
            IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
        }))
    }),
    ("ip_is_link_local_unicast .isLinkLocalUnicast ip > bool", |a| Ok(Value::Bool(is_link_local(ip(a, 0)?)))),
    ("ip_is_global_unicast .isGlobalUnicast ip > bool", |a| {
        let ip = ip(a, 0)?;
        let other = ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || is_link_local(ip);
        Ok(Value::Bool(!other && ip != IpAddr::V4(Ipv4Addr::BROADCAST)))
    }),
    ("string_to_cidr cidr string > cidr", |a| {
        parse_cidr(text(a, 0)?).map(|c| Value::opaque(Opaque::Cidr(c)))
    }),
    ("is_cidr isCIDR string > bool", |a| Ok(Value::Bool(parse_cidr(text(a, 0)?).is_ok()))),
    ("cidr_contains_ip_string .containsIP cidr string > bool", |a| {
        Ok(Value::Bool(holds(cidr(a, 0)?, parse_ip(text(a, 1)?)?)))
    }),
    ("cidr_contains_ip_ip .containsIP cidr ip > bool", |a| Ok(Value::Bool(holds(cidr(a, 0)?, ip(a, 1)?)))),
    ("cidr_contains_cidr_string .containsCIDR cidr string > bool", |a| {
        Ok(Value::Bool(covers(cidr(a, 0)?, parse_cidr(text(a, 1)?)?)))
    }),
    ("cidr_contains_cidr .containsCIDR cidr cidr > bool", |a| {
        Ok(Value::Bool(covers(cidr(a, 0)?, cidr(a, 1)?)))
    }),
    ("cidr_ip .ip cidr > ip", |a| Ok(Value::opaque(Opaque::Ip(cidr(a, 0)?.address)))),
    ("cidr_masked .masked cidr > cidr", |a| {
        let Cidr { address, length } = cidr(a, 0)?;
        Ok(Value::opaque(Opaque::Cidr(Cidr { address: masked(address, length), length })))
    }),
    ("cidr_prefix_length .prefixLength cidr > int", |a| Ok(Value::Int(i64::from(cidr(a, 0)?.length)))),
];

fn opaque<'v>(args: &'v [Value<'_>], index: usize) -> Result<&'v Opaque, EvalError> {
    match args.get(index) {
        Some(Value::Opaque(opaque)) => Ok(opaque),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn ip(args: &[Value<'_>], index: usize) -> Result<IpAddr, EvalError> {
    match opaque(args, index)? {
        Opaque::Ip(ip) => Ok(*ip),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn cidr(args: &[Value<'_>], index: usize) -> Result<Cidr, EvalError> {
    match opaque(args, index)? {
        Opaque::Cidr(cidr) => Ok(*cidr),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn parse_ip(text: &str) -> Result<IpAddr, EvalError> {
    let quoted = crate::api::field::quote(text);
    let wrong = |why: &str| {
        EvalError::failed(format!("IP Address {quoted} parse error during conversion from string: {why}"))
    };
    if text.contains('%') {
        return Err(EvalError::failed(format!(
            "IP Address {quoted} parse error during conversion from string: IP address with zone value is not allowed"
        )));
    }
    let ip: IpAddr = text.parse().map_err(|_| wrong(&format!("ParseAddr({quoted}): unable to parse IP")))?;
    match ip {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            Err(wrong("IPv4-mapped IPv6 address is not allowed"))
        }
        ip => Ok(ip),
    }
}

fn parse_cidr(text: &str) -> Result<Cidr, EvalError> {
    let quoted = crate::api::field::quote(text);
    let wrong = |why: &str| {
        EvalError::failed(format!(
            "network address parse error during conversion from string: netip.ParsePrefix({quoted}): {why}"
        ))
    };
    let (address, length) = text.rsplit_once('/').ok_or_else(|| wrong("no '/'"))?;
    let address = parse_ip(address)?;
    let plain = !length.is_empty() && (length == "0" || !length.starts_with(['0', '+', '-']));
    let length: u8 = length.parse().ok().filter(|_| plain).ok_or_else(|| wrong("bad bits after slash"))?;
    if length > if address.is_ipv4() { 32 } else { 128 } {
        return Err(wrong("prefix length out of range"));
    }
    Ok(Cidr { address, length })
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80,
    }
}

fn masked(ip: IpAddr, length: u8) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or_default();
            Ipv4Addr::from_bits(v4.to_bits() & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or_default();
            Ipv6Addr::from_bits(v6.to_bits() & mask).into()
        }
    }
}

fn holds(range: Cidr, ip: IpAddr) -> bool {
    range.address.is_ipv4() == ip.is_ipv4() && masked(range.address, range.length) == masked(ip, range.length)
}

fn covers(range: Cidr, other: Cidr) -> bool {
    range.length <= other.length && holds(range, other.address)
}
