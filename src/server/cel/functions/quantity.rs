//! Quantities of resources.

use super::{Library, int, text};
use crate::api::Quantity;
use crate::api::quantity::Format;
use crate::server::cel::EvalError;
use crate::server::cel::opaque::Opaque;
use crate::server::cel::value::Value;

pub(super) const LIBRARY: Library = &[
    ("string_to_quantity quantity string > quantity", |a| {
        let quantity = text(a, 0)?.parse::<Quantity>().map_err(|e| EvalError::failed(e.to_string()))?;
        Ok(Value::opaque(Opaque::Quantity(quantity)))
    }),
    ("is_quantity_string isQuantity string > bool", |a| {
        Ok(Value::Bool(text(a, 0)?.parse::<Quantity>().is_ok()))
    }),
    ("quantity_sign .sign quantity > int", |a| {
        let quantity = of(a, 0)?;
        Ok(Value::Int(if quantity.is_zero() { 0 } else { 1 - 2 * i64::from(quantity.is_negative()) }))
    }),
    ("quantity_is_integer .isInteger quantity > bool", |a| Ok(Value::Bool(whole(of(a, 0)?).is_some()))),
    ("quantity_as_integer .asInteger quantity > int", |a| {
        whole(of(a, 0)?).map(Value::Int).ok_or_else(|| EvalError::failed("cannot convert value to integer"))
    }),
    ("quantity_as_float .asApproximateFloat quantity > double", |a| Ok(Value::Double(of(a, 0)?.to_f64()))),
    ("quantity_is_greater_than .isGreaterThan quantity quantity > bool", |a| {
        Ok(Value::Bool(of(a, 0)? > of(a, 1)?))
    }),
    ("quantity_is_less_than .isLessThan quantity quantity > bool", |a| {
        Ok(Value::Bool(of(a, 0)? < of(a, 1)?))
    }),
    ("quantity_compare_to .compareTo quantity quantity > int", |a| {
        Ok(Value::Int(of(a, 0)?.cmp(&of(a, 1)?) as i64))
    }),
    ("quantity_add .add quantity quantity > quantity", |a| Ok(made(of(a, 0)?.plus(of(a, 1)?)))),
    ("quantity_add_int .add quantity int > quantity", |a| Ok(made(of(a, 0)?.plus(units(a)?)))),
    ("quantity_sub .sub quantity quantity > quantity", |a| Ok(made(of(a, 0)?.minus(of(a, 1)?)))),
    ("quantity_sub_int .sub quantity int > quantity", |a| Ok(made(of(a, 0)?.minus(units(a)?)))),
];

fn made<'a>(quantity: Quantity) -> Value<'a> {
    Value::opaque(Opaque::Quantity(quantity))
}

fn units(args: &[Value<'_>]) -> Result<Quantity, EvalError> {
    Ok(Quantity::from_units(int(args, 1)?, Format::DecimalSi))
}

fn of(args: &[Value<'_>], index: usize) -> Result<Quantity, EvalError> {
    match args.get(index) {
        Some(Value::Opaque(opaque)) => match &**opaque {
            Opaque::Quantity(quantity) => Ok(*quantity),
            _ => Err(EvalError::no_such_overload()),
        },
        _ => Err(EvalError::no_such_overload()),
    }
}

fn whole(quantity: Quantity) -> Option<i64> {
    let rounded = Quantity::from_units(quantity.to_units(), quantity.format());
    (rounded == quantity).then(|| quantity.to_units())
}
