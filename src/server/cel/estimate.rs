//! What an expression costs at most, found from its schema: how many items a list, how many characters a text can
//! have. The rules are those of cel-go's `checker/cost.go`, so that what upstream accepts is accepted.

mod calls;
mod range;

use std::collections::HashMap;

use range::Range;

use super::ast::{Expr, Fold, Kind, Literal, Name};
use super::check::Checked;
use super::cost::{CREATE_LIST, CREATE_MAP};
use super::types::{Decl, KEY, Shape, Type};

/// The most that an evaluation can cost where variables are as `root` declares.
pub(super) fn most(expr: &Expr, checked: &Checked, root: &Decl) -> u64 {
    let mut estimator = Estimator {
        checked,
        root,
        places: HashMap::new(),
        sizes: HashMap::new(),
        entries: HashMap::new(),
        locals: Vec::new(),
    };
    estimator.cost(expr).max
}

/// Where in the declared data a part of an expression is.
#[derive(Clone, Copy, Debug)]
enum Place<'d> {
    /// It is not in it.
    Nowhere,
    /// Here, or where nothing is declared.
    At(Option<&'d Decl>),
}

/// How long the keys and values of a list or a map can be.
#[derive(Clone, Copy, Debug)]
struct Entries {
    is_list: bool,
    key: Range,
    value: Range,
}

struct Local<'d> {
    name: Name,
    place: Place<'d>,
    size: Option<Range>,
    entries: Option<Entries>,
}

struct Estimator<'c, 'd> {
    checked: &'c Checked,
    root: &'d Decl,
    places: HashMap<u32, Place<'d>>,
    sizes: HashMap<u32, Range>,
    entries: HashMap<u32, Entries>,
    locals: Vec<Local<'d>>,
}

/// A step from a list or a map to what it holds.
#[derive(Clone, Copy)]
enum Step<'s> {
    Keys,
    Values,
    Indices,
    Field(&'s str),
}

impl<'d> Estimator<'_, 'd> {
    fn type_of(&self, expr: &Expr) -> &Type {
        self.checked.types.get(&expr.id).unwrap_or(&Type::Dyn)
    }

    fn local(&self, name: &str) -> Option<&Local<'d>> {
        self.locals.iter().rev().find(|local| &*local.name == name)
    }

    fn place(&self, expr: &Expr) -> Place<'d> {
        if let Kind::Ident(name) = &expr.kind
            && let Some(local) = self.local(name)
        {
            return local.place;
        }
        self.places.get(&expr.id).copied().unwrap_or(Place::Nowhere)
    }

    /// The place one step further. Upstream takes what follows nothing for the root itself, and so must this.
    fn step(&self, from: Place<'d>, step: Step<'_>) -> Place<'d> {
        let Place::At(at) = from else { return Place::At(Some(self.root)) };
        let Some(decl) = at else { return Place::At(None) };
        Place::At(match (&decl.shape, step) {
            (Shape::List { items, .. }, Step::Values) => Some(items),
            (Shape::Map(values), Step::Values) => Some(values),
            (_, Step::Field(name)) => decl.field(name).map(|field| &*field.decl),
            (Shape::Map(_), Step::Keys) => Some(&KEY),
            (_, Step::Keys | Step::Indices | Step::Values) => None,
        })
    }

    fn cost(&mut self, expr: &Expr) -> Range {
        match &expr.kind {
            Kind::Literal(_) => Range::ZERO,
            Kind::Ident(name) => {
                let place = self.local(name).map_or(Place::At(Some(self.root)), |local| local.place);
                self.places.insert(expr.id, place);
                Range::ONE
            }
            Kind::Select { operand, field, test } => {
                let mut sum = self.cost(operand);
                if *test {
                    return sum;
                }
                if matches!(self.type_of(operand), Type::Map(_) | Type::Object(_) | Type::Param(_)) {
                    sum = sum.plus(Range::ONE);
                }
                let place = self.step(self.place(operand), Step::Field(field));
                self.places.insert(expr.id, place);
                sum
            }
            Kind::Call { .. } => self.call(expr),
            Kind::List { items, .. } => self.list(expr, items),
            Kind::Map { entries } => {
                let (mut sum, mut keys, mut values) = (Range::ZERO, None, None);
                for entry in entries {
                    sum = sum.plus(self.cost(&entry.key)).plus(self.cost(&entry.value));
                    keys = Some(self.size_or_unknown(&entry.key).union_of(keys));
                    values = Some(self.size_or_unknown(&entry.value).union_of(values));
                }
                let [key, value] = [keys, values].map(|size| size.unwrap_or(Range::ZERO));
                self.entries.insert(expr.id, Entries { is_list: false, key, value });
                sum.plus(Range::fixed(CREATE_MAP))
            }
            Kind::Fold(fold) if fold.is_bind() => self.bind(expr, fold),
            Kind::Fold(fold) => self.fold(expr, fold),
        }
    }

    fn list(&mut self, expr: &Expr, items: &[Expr]) -> Range {
        let (mut sum, mut values) = (Range::ZERO, None);
        for item in items {
            sum = sum.plus(self.cost(item));
            values = Some(self.size_or_unknown(item).union_of(values));
        }
        let value = values.unwrap_or(Range::ZERO);
        self.entries.insert(expr.id, Entries { is_list: true, key: Range::ONE, value });
        sum.plus(Range::fixed(CREATE_LIST))
    }

    /// The size of a part, as far as anything is known.
    fn size(&mut self, expr: &Expr) -> Option<Range> {
        if let Some(known) = self.sizes.get(&expr.id) {
            return Some(*known);
        }
        let literal = match &expr.kind {
            Kind::Literal(Literal::String(text)) => Some(text.chars().count() as u64),
            Kind::Literal(Literal::Bytes(bytes)) => Some(bytes.len() as u64),
            Kind::Literal(_) => Some(1),
            Kind::List { items, .. } => Some(items.len() as u64),
            Kind::Map { entries } => Some(entries.len() as u64),
            _ => None,
        };
        if let Some(size) = literal {
            return Some(Range::fixed(size));
        }
        if let Place::At(Some(decl)) = self.place(expr) {
            let size = Range { min: 0, max: decl.max_elements };
            self.sizes.insert(expr.id, size);
            return Some(size);
        }
        if is_scalar(self.type_of(expr)) {
            return Some(Range::ONE);
        }
        match &expr.kind {
            Kind::Ident(name) => self.local(name).and_then(|local| local.size),
            _ => None,
        }
    }

    fn size_or_unknown(&mut self, expr: &Expr) -> Range {
        self.size(expr).unwrap_or(Range::UNKNOWN)
    }

    fn entries_of(&self, expr: &Expr) -> Option<Entries> {
        let local = match &expr.kind {
            Kind::Ident(name) => self.local(name).and_then(|local| local.entries),
            _ => None,
        };
        self.entries.get(&expr.id).copied().or(local)
    }

    fn bind(&mut self, expr: &Expr, fold: &Fold) -> Range {
        let mut sum = self.cost(&fold.range).plus(self.cost(&fold.start));
        let (place, size) = (self.place(&fold.start), self.size(&fold.start));
        let entries = self.entries_of(&fold.start);
        self.locals.push(Local { name: fold.accumulator.clone(), place, size, entries });
        sum = sum.plus(self.cost(&fold.result));
        if let Some(size) = self.size(&fold.result) {
            self.sizes.insert(expr.id, size);
        }
        if let Some(entries) = self.entries_of(&fold.result) {
            self.entries.insert(expr.id, entries);
        }
        self.locals.pop();
        sum
    }

    fn fold(&mut self, expr: &Expr, fold: &Fold) -> Range {
        let mut sum = self.cost(&fold.range).plus(self.cost(&fold.start));
        let depth = self.locals.len();
        let (place, size) = (self.place(&fold.start), self.size(&fold.start));
        let entries = self.entries_of(&fold.start);
        self.locals.push(Local { name: fold.accumulator.clone(), place, size, entries });
        self.push_variables(fold);
        let condition = self.cost(&fold.condition);
        let step = self.cost(&fold.step);
        let step_entries = self.entries_of(&fold.step);
        self.locals.truncate(depth + 1);
        sum = sum.plus(self.cost(&fold.result));
        self.locals.truncate(depth);
        let count = self.size_or_unknown(&fold.range);
        match &fold.start.kind {
            Kind::Literal(_) => {
                if let Some(size) = self.size(&fold.start) {
                    self.sizes.insert(expr.id, size);
                }
            }
            Kind::List { .. } | Kind::Map { .. } => {
                self.sizes.insert(expr.id, count);
                if let Some(entries) = step_entries {
                    self.entries.insert(expr.id, entries);
                }
            }
            _ => {}
        }
        sum.plus(count.times(step.plus(condition)))
    }

    /// The variables that go over a fold's range.
    fn push_variables(&mut self, fold: &Fold) {
        let entries = self.entries_of(&fold.range);
        let is_list = entries.map_or(matches!(self.type_of(&fold.range), Type::List(_)), |e| e.is_list);
        let from = self.place(&fold.range);
        let (key, value) = (entries.map(|e| e.key), entries.map(|e| e.value));
        let values = (self.step(from, Step::Values), value);
        let keys = (self.step(from, if is_list { Step::Indices } else { Step::Keys }), key);
        let (first, second) = match &fold.second {
            Some(name) => (keys, Some((name, values))),
            None => (if is_list { values } else { keys }, None),
        };
        let local = |name: &Name, (place, size)| Local { name: name.clone(), place, size, entries: None };
        self.locals.push(local(&fold.variable, first));
        if let Some((name, place)) = second {
            self.locals.push(local(name, place));
        }
    }
}

fn is_scalar(of: &Type) -> bool {
    match of {
        Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Timestamp | Type::Uint => true,
        Type::Optional(value) => is_scalar(value),
        _ => false,
    }
}
