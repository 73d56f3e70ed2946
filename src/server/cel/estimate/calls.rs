//! What calls cost at most, and how large their results are.

use super::range::Range;
use super::{Estimator, Place, Step};
use crate::server::cel::ast::{Expr, Kind, Literal};
use crate::server::cel::cost::{AUTHORIZATION, CREATE_LIST, FORMAT_REGEX, REGEX, TRAVERSAL};
use crate::server::cel::types::Type;

/// What one overload costs besides its arguments, and the size of its result if it is known.
struct Estimate {
    cost: Range,
    size: Option<Range>,
}

impl Estimate {
    fn of(cost: Range) -> Self {
        Self { cost, size: None }
    }

    fn sized(cost: Range, size: Range) -> Self {
        Self { cost, size: Some(size) }
    }
}

impl Estimator<'_, '_> {
    pub(super) fn call(&mut self, expr: &Expr) -> Range {
        let Kind::Call { function, target, args } = &expr.kind else { return Range::ZERO };
        if &**function == "dyn"
            && let [arg] = args.as_slice()
        {
            let cost = self.cost(arg);
            if let Some(size) = self.size(arg) {
                self.sizes.insert(expr.id, size);
            }
            return cost.plus(Range::ONE);
        }
        let costs: Vec<Range> = args.iter().map(|arg| self.cost(arg)).collect();
        let target_cost = target.as_deref().map_or(Range::ZERO, |target| self.cost(target));
        let arg_sum = costs.iter().fold(Range::ZERO, |sum, cost| sum.plus(*cost));
        if &**function == "_?._" {
            return arg_sum.plus(Range::ONE);
        }
        let overloads: Vec<&'static str> = self
            .checked
            .calls
            .get(&expr.id)
            .map(|all| all.iter().map(|o| o.id).collect())
            .unwrap_or_default();
        if overloads.is_empty() {
            return Range::ZERO;
        }
        let (mut cost, mut size): (Option<Range>, Option<Range>) = (None, None);
        for overload in overloads {
            let estimate = self.overload(expr, function, overload, target.as_deref(), args, &costs, arg_sum);
            cost = Some(estimate.cost.union_of(cost));
            if let Some(found) = estimate.size {
                size = Some(found.union_of(size));
            }
            if let ("index_list" | "index_map", [container, _]) = (overload, args.as_slice()) {
                size = self.entries_of(container).map(|entries| entries.value);
                let place = self.step(self.place(container), Step::Values);
                self.places.insert(expr.id, place);
            }
            if size.is_none() {
                size = self.size(expr);
            }
        }
        if let Some(size) = size {
            self.sizes.insert(expr.id, size);
        }
        target_cost.plus(cost.unwrap_or(Range::ZERO))
    }

    #[allow(clippy::too_many_arguments, reason = "a call is what it is")]
    fn overload(
        &mut self,
        expr: &Expr,
        function: &str,
        overload: &str,
        target: Option<&Expr>,
        args: &[Expr],
        costs: &[Range],
        arg_sum: Range,
    ) -> Estimate {
        let library = self.of_library(function, overload, target, args);
        if let Some(Estimate { cost, size }) = library {
            return Estimate { cost: cost.plus(arg_sum), size };
        }
        match (overload, args) {
            ("logical_or" | "logical_and", [_, _]) => {
                Estimate::of(Range { min: costs[0].min, max: costs[0].plus(costs[1]).max })
            }
            ("conditional", [_, then, otherwise]) => {
                let size = self.size_or_unknown(then).union(self.size_or_unknown(otherwise));
                if let (Some(a), Some(b)) = (self.entries_of(then), self.entries_of(otherwise)) {
                    let both = super::Entries {
                        is_list: a.is_list,
                        key: a.key.union(b.key),
                        value: a.value.union(b.value),
                    };
                    self.entries.insert(expr.id, both);
                }
                Estimate::sized(costs[0].plus(costs[1].union(costs[2])), size)
            }
            _ => {
                let Estimate { cost, size } = self.standard(expr, overload, target, args);
                Estimate { cost: cost.plus(arg_sum), size }
            }
        }
    }

    fn standard(&mut self, expr: &Expr, overload: &str, target: Option<&Expr>, args: &[Expr]) -> Estimate {
        match (overload, target, args) {
            ("string_format", Some(target), _) => {
                Estimate::of(self.size_or_unknown(target).scaled(TRAVERSAL))
            }
            ("string_to_bytes", _, [arg]) => {
                let size = self.size_or_unknown(arg);
                Estimate::sized(
                    size.scaled(TRAVERSAL),
                    Range { min: size.min, max: size.max.saturating_mul(4) },
                )
            }
            ("bytes_to_string", _, [arg]) => {
                let size = self.size_or_unknown(arg);
                Estimate::sized(size.scaled(TRAVERSAL), Range { min: size.min / 4, max: size.max })
            }
            ("strings_quote", _, [arg]) => {
                let size = self.size_or_unknown(arg);
                let quoted = size.plus(Range { min: 0, max: size.max }).plus(Range::fixed(2));
                Estimate::sized(size.scaled(TRAVERSAL), quoted)
            }
            ("starts_with_string" | "ends_with_string", _, [arg]) => {
                Estimate::of(self.size_or_unknown(arg).scaled(TRAVERSAL))
            }
            ("in_list", _, [_, list]) => Estimate::of(self.size_or_unknown(list)),
            ("matches_string", Some(target), [pattern]) => Estimate::of(self.matching(target, pattern)),
            ("contains_string", Some(target), [part]) => {
                let part = self.size_or_unknown(part).scaled(TRAVERSAL);
                Estimate::of(self.size_or_unknown(target).scaled(TRAVERSAL).times(part))
            }
            ("add_string" | "add_bytes" | "add_list", _, [left, right]) => {
                let size = self.size_or_unknown(left).plus(self.size_or_unknown(right));
                if let (Some(a), Some(b)) = (self.entries_of(left), self.entries_of(right)) {
                    let (key, value) = (a.key.union(b.key), a.value.union(b.value));
                    self.entries.insert(expr.id, super::Entries { is_list: b.is_list, key, value });
                }
                let cost = if overload == "add_list" { Range::ONE } else { size.scaled(TRAVERSAL) };
                Estimate::sized(cost, size)
            }
            (
                "less_string"
                | "less_equals_string"
                | "greater_string"
                | "greater_equals_string"
                | "less_bytes"
                | "less_equals_bytes"
                | "greater_bytes"
                | "greater_equals_bytes"
                | "equals"
                | "not_equals",
                _,
                [left, right],
            ) => {
                let max = self.size_or_unknown(left).max.min(self.size_or_unknown(right).max);
                Estimate::of(Range { min: u64::from(max > 0), max }.scaled(TRAVERSAL))
            }
            _ => Estimate::of(Range::ONE),
        }
    }

    fn matching(&mut self, subject: &Expr, pattern: &Expr) -> Range {
        let pattern = self.size_or_unknown(pattern).scaled(REGEX);
        self.size_or_unknown(subject).plus(Range::ONE).scaled(TRAVERSAL).times(pattern)
    }

    /// The size of the items of a list; `None` if it is no list.
    fn item_size(&mut self, list: &Expr) -> Option<(Type, Range)> {
        let item = match self.type_of(list) {
            Type::List(item) | Type::Optional(item) | Type::Type(item) => (**item).clone(),
            Type::Map(entry) => entry.0.clone(),
            _ => return None,
        };
        // Only a place in the data says how long its items are.
        let size = match self.place(list) {
            Place::Nowhere => None,
            from @ Place::At(_) => match self.step(from, Step::Values) {
                Place::At(Some(decl)) => Some(Range { min: 0, max: decl.max_elements }),
                _ => None,
            },
        };
        Some((item, size.unwrap_or(Range::UNKNOWN)))
    }

    /// Kubernetes' own functions; `None` for those of the language.
    fn of_library(
        &mut self,
        function: &str,
        overload: &str,
        target: Option<&Expr>,
        args: &[Expr],
    ) -> Option<Estimate> {
        let first = args.first();
        Some(match (function, target) {
            ("check", _) => Estimate::of(Range::fixed(AUTHORIZATION)),
            ("fieldSelector" | "labelSelector", _) => {
                let size = self.size_or_unknown(first?);
                let requirements = size.scaled(0.5).scaled(50.0);
                Estimate::of(Range::fixed(CREATE_LIST).plus(size.scaled(TRAVERSAL)).plus(requirements))
            }
            ("isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf", Some(target)) => {
                self.scan(target)
            }
            ("url" | "cidr" | "isIP" | "isCIDR" | "quantity" | "isQuantity" | "semver" | "isSemver", _) => {
                let size = self.size_or_unknown(first?);
                let cost = size.scaled(TRAVERSAL);
                if function == "url" { Estimate::sized(cost, size) } else { Estimate::of(cost) }
            }
            ("ip", None) if overload != "cidr_ip" => {
                Estimate::of(self.size_or_unknown(first?).scaled(TRAVERSAL))
            }
            ("ip.isCanonical", _) => Estimate::of(self.size_or_unknown(first?).scaled(2.0 * TRAVERSAL)),
            ("lowerAscii" | "upperAscii" | "substring" | "trim", Some(target)) => {
                let size = self.size_or_unknown(target);
                Estimate::sized(size.scaled(TRAVERSAL), size)
            }
            ("replace", Some(target)) => self.replacing(target, first?, args.get(1)?),
            ("split", Some(target)) => {
                let size = self.size_or_unknown(target);
                let limit = match args.get(1).map(|arg| &arg.kind) {
                    Some(Kind::Literal(Literal::Int(n))) => u64::try_from(*n).unwrap_or(u64::MAX),
                    _ => size.max,
                };
                Estimate::sized(size.scaled(2.0 * TRAVERSAL), Range { min: 0, max: limit })
            }
            ("join", Some(target)) => self.joining(target, first),
            ("find" | "findAll", Some(target)) => {
                let size = self.size_or_unknown(target);
                Estimate::sized(self.matching(target, first?), Range { min: 0, max: size.max })
            }
            ("containsIP" | "containsCIDR", _) => {
                let address = Range { min: 4, max: 16 };
                let mut cost = address.plus(address).scaled(TRAVERSAL);
                if function == "containsCIDR" {
                    cost = cost.plus(address.scaled(TRAVERSAL)).plus(Range::ONE);
                }
                if overload.ends_with("_string") {
                    cost = cost.plus(self.size_or_unknown(first?).scaled(TRAVERSAL));
                }
                Estimate::of(cost)
            }
            ("validate", _) => {
                let pattern = FORMAT_REGEX as f64 * REGEX;
                Estimate::of(self.size_or_unknown(first?).scaled(TRAVERSAL).scaled(pattern))
            }
            ("sets.contains" | "sets.intersects" | "sets.equivalent", None) => {
                let factor = if function == "sets.equivalent" { 2.0 } else { 1.0 };
                let pairs = self.size_or_unknown(first?).times(self.size_or_unknown(args.get(1)?));
                Estimate::of(pairs.scaled(factor).plus(Range::ONE))
            }
            ("distinct" | "sort" | "@sortByAssociatedKeys", Some(target)) => {
                let compared = if function == "@sortByAssociatedKeys" { first? } else { target };
                let size = self.size_or_unknown(compared);
                let text = matches!(self.item_size(compared), Some((Type::String | Type::Bytes, _)));
                let factor = if text && function != "distinct" { 2.0 + TRAVERSAL } else { 2.0 };
                Estimate::sized(size.times(size).scaled(factor).plus(Range::fixed(CREATE_LIST + 1)), size)
            }
            ("reverse" | "slice" | "flatten", Some(target)) => {
                let size = self.size_or_unknown(target);
                Estimate::sized(size.plus(Range::fixed(CREATE_LIST + 1)), size)
            }
            ("lists.range", _) => match first.map(|arg| &arg.kind) {
                Some(Kind::Literal(Literal::Int(n))) => {
                    let size = Range::fixed(u64::try_from(*n).unwrap_or_default());
                    Estimate::sized(size.plus(Range::fixed(CREATE_LIST + 1)), size)
                }
                _ => Estimate::of(Range::UNKNOWN),
            },
            ("_==_", None) => match (self.type_of(first?), self.type_of(args.get(1)?)) {
                (Type::Opaque(a), Type::Opaque(b)) if a == b => Estimate::of(Range::ONE),
                _ => return None,
            },
            _ => return None,
        })
    }

    fn scan(&mut self, target: &Expr) -> Estimate {
        let size = self.size_or_unknown(target);
        let Some((item, item_size)) = self.item_size(target) else {
            return Estimate::of(size.scaled(TRAVERSAL));
        };
        let each = match item {
            Type::String | Type::Bytes => Range::ONE.plus(item_size.scaled(TRAVERSAL)),
            _ => Range::ONE,
        };
        Estimate::of(size.times(each))
    }

    fn joining(&mut self, target: &Expr, separator: Option<&Expr>) -> Estimate {
        let list = self.size_or_unknown(target);
        let mut size = self.item_size(target).map_or(Range::ZERO, |(_, item)| list.times(item));
        if let Some(separator) = separator {
            let between = Range { min: list.min.saturating_sub(1), max: list.max.saturating_sub(1) };
            size = size.plus(self.size_or_unknown(separator).times(between));
        }
        Estimate::sized(size.scaled(TRAVERSAL), size)
    }

    fn replacing(&mut self, target: &Expr, from: &Expr, to: &Expr) -> Estimate {
        let [size, from, to] = [target, from, to].map(|part| self.size_or_unknown(part));
        let divided = |n: u64, by: u64| (n as f64 / by as f64).ceil() as u64;
        // The longest: the shortest part is replaced by the longest text, as often as can be.
        let (most, kept_most) = if from.min == 0 {
            (size.max.saturating_add(1), size.max)
        } else if to.max <= from.min {
            (0, size.max)
        } else {
            (divided(size.max, from.min), 0)
        };
        let (least, kept_least) = if from.max == 0 {
            (size.min.saturating_add(1), size.min)
        } else if from.max <= to.min {
            (0, size.min)
        } else {
            (divided(size.min, from.max), 0)
        };
        let count = Range { min: least, max: most };
        let result = count.times(to).plus(Range { min: kept_least, max: kept_most });
        Estimate::sized(size.scaled(2.0 * TRAVERSAL), result)
    }
}
