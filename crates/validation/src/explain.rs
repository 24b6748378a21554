//! What is wrong with a value that a schema refuses. It never decides whether it is refused: where it finds no reason that it could
//! tell, it says so of the whole.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use serde_json::{Map, Value};

use crate::exact::{self, MAX_COMPARED_BYTES};
use crate::program::{Id, Part, Program};
use crate::violation::{
    MAX_ALTERNATIVES, MAX_POINTER_BYTES, MAX_VIOLATIONS, Place, Violation, Violations, beneath,
};

/// How much is looked at before no more is looked for: each keyword that is held against a value, each member, item and pattern that
/// it leads to, and more for large values.
const MAX_STEPS: usize = 100_000;
/// How deep schemas lead into each other before that is not followed any more.
const MAX_NESTED: usize = 256;

/// Everything that is wrong with a value that is refused; at least one thing. Where it has too much to compare there is nothing to
/// look for any more, and that is told.
pub(crate) fn explain(program: &Program, value: &Value) -> Violations {
    let mut told = Violations::default();
    if !exact::is_too_much() {
        let mut explaining = Explaining::of(program);
        explaining.judge(Program::ROOT, value, &At::Root, Tell::Yes, &mut Looked::default());
        let is_ended = explaining.is_ended();
        told = explaining.told;
        told.more |= is_ended;
    }
    let message = if exact::is_too_much() {
        format!(
            "holds too much in arrays whose items must differ: {} MiB are compared at most",
            MAX_COMPARED_BYTES >> 20
        )
    } else if told.is_empty() {
        "does not match the schema".to_owned()
    } else {
        return told;
    };
    let schema = program.node(Program::ROOT).place.clone();
    told.add(Violation::new(Place::Body(String::new()), schema, message));
    told
}

struct Explaining<'a, 'v> {
    program: &'a Program,
    steps: usize,
    nested: usize,
    told: Violations,
    /// What is known of values that were held against alternatives, by the schema and the value: none of it where it does not fit.
    /// Alternatives that lead back to themselves would be looked at twice as often at each depth.
    known: HashMap<(Id, *const Value), Option<Rc<Looked<'v>>>>,
    /// Of how many alternatives more may be told what is wrong with them. `None` within one: there only the first thing is told.
    alternatives: Option<usize>,
}

/// Whether what is wrong is told, or only that something is: of an alternative nobody can say whether it was meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tell {
    Yes,
    No,
}

/// Where a value stands.
enum At<'a> {
    Root,
    Member(&'a At<'a>, &'a str),
    Item(&'a At<'a>, usize),
}

impl At<'_> {
    /// The JSON Pointer, as far as it is not too long.
    fn pointer(&self) -> String {
        let (before, segment) = match self {
            Self::Root => return String::new(),
            Self::Member(before, name) => (before.pointer(), beneath("", name)),
            Self::Item(before, index) => (before.pointer(), format!("/{index}")),
        };
        if before.len() + segment.len() > MAX_POINTER_BYTES { before } else { before + &segment }
    }
}

/// The members and items of a value that some schema has looked at.
#[derive(Debug, Default)]
struct Looked<'v> {
    members: HashSet<&'v str>,
    items: HashSet<usize>,
}

impl<'v> Looked<'v> {
    fn also(&mut self, other: &Self) {
        self.members.extend(&other.members);
        self.items.extend(&other.items);
    }

    fn count(&self) -> usize {
        self.members.len() + self.items.len()
    }
}

/// What it costs to look at a value alone, in steps beside the one that every keyword is.
fn weight(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.len() / 4,
        Value::Object(members) => members.len() / 4,
        Value::String(text) => text.len() / 256,
        _ => 0,
    }
}

impl<'a, 'v> Explaining<'a, 'v> {
    fn of(program: &'a Program) -> Self {
        let (told, known, alternatives) = (Violations::default(), HashMap::new(), Some(MAX_VIOLATIONS));
        Self { program, steps: 0, nested: 0, told, known, alternatives }
    }

    /// Counts steps; whether nothing more is to be looked at.
    fn step(&mut self, steps: usize, tell: Tell) -> bool {
        self.steps = self.steps.saturating_add(steps);
        self.is_ended() || (tell == Tell::Yes && self.told.more)
    }

    /// Whether nothing is looked at any more, by nobody: what keywords still make of it is not to be told.
    fn is_ended(&self) -> bool {
        self.steps >= MAX_STEPS
    }

    /// Whether a value is what a schema asks.
    fn judge(&mut self, id: Id, value: &'v Value, at: &At<'_>, tell: Tell, looked: &mut Looked<'v>) -> bool {
        if self.nested == MAX_NESTED {
            return true;
        }
        self.nested += 1;
        let is_valid = self.parts(id, value, at, tell, looked);
        self.nested -= 1;
        is_valid
    }

    fn parts(&mut self, id: Id, value: &'v Value, at: &At<'_>, tell: Tell, looked: &mut Looked<'v>) -> bool {
        let program = self.program;
        let node = program.node(id);
        let (mut is_valid, mut own) = (true, Looked::default());
        for part in &node.parts {
            if self.step(1, tell) {
                return true;
            }
            // What a schema that does not hold has looked at counts as not looked at, which would be told of members that are right.
            if !is_valid && matches!(part, Part::UnevaluatedProperties(_) | Part::UnevaluatedItems(_)) {
                continue;
            }
            is_valid &= self.part(part, &node.place, value, at, tell, &mut own);
            if !is_valid && tell == Tell::No {
                return false;
            }
        }
        if is_valid {
            looked.also(&own);
        }
        is_valid
    }

    /// The same without telling, and once for each value.
    fn fits(&mut self, id: Id, value: &'v Value, looked: &mut Looked<'v>) -> bool {
        let place = (id, std::ptr::from_ref(value));
        if let Some(known) = self.known.get(&place) {
            let Some(own) = known.clone() else { return false };
            self.step(own.count(), Tell::No);
            looked.also(&own);
            return true;
        }
        let mut own = Looked::default();
        let is_valid = self.judge(id, value, &At::Root, Tell::No, &mut own);
        if is_valid {
            looked.also(&own);
        }
        // What was broken off says nothing.
        if !self.step(0, Tell::No) {
            self.known.insert(place, is_valid.then(|| Rc::new(own)));
        }
        is_valid
    }

    fn tell(&mut self, tell: Tell, at: &At<'_>, place: &str, keyword: &str, message: &str) {
        if tell == Tell::Yes && !self.is_ended() {
            let schema = if keyword.is_empty() { place.to_owned() } else { beneath(place, keyword) };
            self.told.add(Violation::new(Place::Body(at.pointer()), schema, message));
            self.told.more |= self.alternatives.is_none();
        }
    }

    /// Adds to what was told last what is wrong with alternatives that a value does not fit.
    fn tell_alternatives(&mut self, tell: Tell, ids: &[Id], value: &'v Value, at: &At<'_>) {
        let is_told = tell == Tell::Yes && !self.told.more && !self.is_ended();
        let Some(left) = self.alternatives.filter(|_| is_told) else { return };
        let mut found = Vec::new();
        for id in ids.iter().take(MAX_ALTERNATIVES.min(left)) {
            let known = std::mem::take(&mut self.known);
            let mut within = Explaining {
                program: self.program,
                steps: self.steps,
                nested: self.nested,
                told: Violations::default(),
                known,
                alternatives: None,
            };
            within.judge(*id, value, at, Tell::Yes, &mut Looked::default());
            (self.steps, self.known) = (within.steps, within.known);
            found.extend(within.told.listed.into_iter().next());
        }
        self.alternatives = Some(left - found.len());
        if let Some(told) = self.told.listed.last_mut() {
            told.alternatives = found;
        }
    }

    fn part(
        &mut self,
        part: &Part,
        place: &str,
        value: &'v Value,
        at: &At<'_>,
        tell: Tell,
        looked: &mut Looked<'v>,
    ) -> bool {
        match part {
            Part::Never => {
                self.tell(tell, at, place, "", "must not be there");
                false
            }
            Part::Leaf { keyword, validator, message } => {
                if self.step(weight(value), tell) {
                    return true;
                }
                let is_valid = validator.is_valid(value);
                if exact::is_too_much() {
                    self.steps = MAX_STEPS;
                    return true;
                }
                if !is_valid {
                    self.tell(tell, at, place, keyword, message);
                }
                is_valid
            }
            Part::Same(id) => self.judge(*id, value, at, tell, looked),
            Part::AllOf(ids) => {
                let mut is_valid = true;
                for id in ids {
                    is_valid &= self.judge(*id, value, at, tell, looked);
                    if !is_valid && tell == Tell::No {
                        break;
                    }
                }
                is_valid
            }
            Part::AnyOf(ids) => {
                let fitting = self.fitting(ids, value, looked);
                if fitting == 0 {
                    self.tell(tell, at, place, "anyOf", "must match at least one of the alternatives");
                    self.tell_alternatives(tell, ids, value, at);
                }
                fitting > 0
            }
            Part::OneOf(ids) => {
                let fitting = self.fitting(ids, value, looked);
                let message = match fitting {
                    0 => "must match one of the alternatives",
                    1 => return true,
                    _ => "must match only one of the alternatives",
                };
                self.tell(tell, at, place, "oneOf", message);
                if fitting == 0 {
                    self.tell_alternatives(tell, ids, value, at);
                }
                false
            }
            Part::Not(id) => {
                let fits = self.fits(*id, value, &mut Looked::default());
                if fits {
                    self.tell(tell, at, place, "not", "must not be what `not` describes");
                }
                !fits
            }
            Part::If { condition, then, otherwise } => {
                let mut own = Looked::default();
                let next = if self.fits(*condition, value, &mut own) {
                    looked.also(&own);
                    then
                } else {
                    otherwise
                };
                next.is_none_or(|id| self.judge(id, value, at, tell, looked))
            }
            _ => match value {
                Value::Object(members) => self.of_object(part, place, value, members, at, tell, looked),
                Value::Array(items) => self.of_array(part, place, items, at, tell, looked),
                _ => true,
            },
        }
    }

    /// How many of the alternatives a value fits.
    fn fitting(&mut self, ids: &[Id], value: &'v Value, looked: &mut Looked<'v>) -> usize {
        ids.iter().filter(|id| self.fits(**id, value, looked)).count()
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the place in the schema and in the value, and what was found"
    )]
    fn of_object(
        &mut self,
        part: &Part,
        place: &str,
        value: &'v Value,
        members: &'v Map<String, Value>,
        at: &At<'_>,
        tell: Tell,
        looked: &mut Looked<'v>,
    ) -> bool {
        match part {
            Part::Required(names) => self.required(names, members, (place, "required"), at, tell),
            Part::DependentRequired(dependent) => {
                let present = dependent.iter().filter(|(name, _)| members.contains_key(name));
                present.fold(true, |is_valid, (_, names)| {
                    self.required(names, members, (place, "dependentRequired"), at, tell) && is_valid
                })
            }
            Part::DependentSchemas(dependent) => {
                let present = dependent.iter().filter(|(name, _)| members.contains_key(name));
                present.fold(true, |is_valid, (_, id)| self.judge(*id, value, at, tell, looked) && is_valid)
            }
            Part::Properties { named, patterns, others } => {
                let mut is_valid = true;
                for (name, member) in members {
                    // A pattern is tried over the whole name.
                    let cost = 1 + patterns.len() * (1 + name.len() / 256);
                    if self.step(cost, tell) || (!is_valid && tell == Tell::No) {
                        break;
                    }
                    let at = At::Member(at, name);
                    let mut ids: Vec<Id> = named.get(name).copied().into_iter().collect();
                    if !patterns.is_empty() {
                        let text = Value::String(name.clone());
                        let fitting = patterns.iter().filter(|(pattern, _)| pattern.is_valid(&text));
                        ids.extend(fitting.map(|(_, id)| *id));
                    }
                    if ids.is_empty() {
                        ids.extend(others);
                    }
                    if !ids.is_empty() {
                        looked.members.insert(name);
                    }
                    for id in ids {
                        is_valid &= self.judge(id, member, &at, tell, &mut Looked::default());
                    }
                }
                is_valid
            }
            Part::PropertyNames(id) => {
                let mut is_valid = true;
                for name in members.keys() {
                    if self.step(1 + name.len() / 256, tell) || (!is_valid && tell == Tell::No) {
                        break;
                    }
                    if !self.is_name(*id, name) {
                        is_valid = false;
                        let at = At::Member(at, name);
                        self.tell(tell, &at, place, "propertyNames", "has a name that is not allowed");
                    }
                }
                is_valid
            }
            Part::UnevaluatedProperties(id) => {
                let mut is_valid = true;
                for (name, member) in members {
                    if self.step(1, tell) || (!is_valid && tell == Tell::No) {
                        break;
                    }
                    if looked.members.insert(name) {
                        let at = At::Member(at, name);
                        is_valid &= self.judge(*id, member, &at, tell, &mut Looked::default());
                    }
                }
                is_valid
            }
            _ => true,
        }
    }

    /// Whether a name is what a schema asks. It is held against nothing else, so nothing of it is remembered.
    fn is_name(&mut self, id: Id, name: &str) -> bool {
        let text = Value::String(name.to_owned());
        let mut own = Explaining { steps: self.steps, nested: self.nested, ..Explaining::of(self.program) };
        let is_valid = own.judge(id, &text, &At::Root, Tell::No, &mut Looked::default());
        self.steps = own.steps;
        is_valid
    }

    fn required(
        &mut self,
        names: &[String],
        members: &Map<String, Value>,
        (place, keyword): (&str, &str),
        at: &At<'_>,
        tell: Tell,
    ) -> bool {
        let mut is_valid = true;
        for name in names.iter().filter(|name| !members.contains_key(*name)) {
            is_valid = false;
            if tell == Tell::Yes {
                let message = crate::violation::shortened(format!("must have the member {name:?}"));
                self.tell(tell, at, place, keyword, &message);
            }
        }
        is_valid
    }

    fn of_array(
        &mut self,
        part: &Part,
        place: &str,
        items: &'v [Value],
        at: &At<'_>,
        tell: Tell,
        looked: &mut Looked<'v>,
    ) -> bool {
        match part {
            Part::Items { prefix, others } => {
                let mut is_valid = true;
                for (index, item) in items.iter().enumerate() {
                    let Some(id) = prefix.get(index).copied().or(*others) else { break };
                    if self.step(1, tell) || (!is_valid && tell == Tell::No) {
                        break;
                    }
                    looked.items.insert(index);
                    let at = At::Item(at, index);
                    is_valid &= self.judge(id, item, &at, tell, &mut Looked::default());
                }
                is_valid
            }
            Part::Contains { item: id, min, max } => {
                let mut count = 0;
                for (index, item) in items.iter().enumerate() {
                    if self.step(1, tell) {
                        return true;
                    }
                    if self.fits(*id, item, &mut Looked::default()) {
                        count += 1;
                        looked.items.insert(index);
                    }
                }
                let (keyword, message) = match count {
                    few if few < *min => ("contains", "must have more items that match `contains`"),
                    many if many > *max => ("maxContains", "must have fewer items that match `contains`"),
                    _ => return true,
                };
                self.tell(tell, at, place, keyword, message);
                false
            }
            Part::UnevaluatedItems(id) => {
                let mut is_valid = true;
                for (index, item) in items.iter().enumerate() {
                    if self.step(1, tell) || (!is_valid && tell == Tell::No) {
                        break;
                    }
                    if looked.items.insert(index) {
                        let at = At::Item(at, index);
                        is_valid &= self.judge(*id, item, &at, tell, &mut Looked::default());
                    }
                }
                is_valid
            }
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests;
