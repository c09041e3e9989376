//! Python's pickle, as far as PyTorch's state dictionaries need it.
//!
//! Owns the machine that builds values out of a pickle's bytes. Calls nothing
//! and knows no tensors: a call in the pickle stays a value. Values lie in one
//! table and refer to each other by number, so that neither deep nesting nor
//! circles in a hostile file can exhaust the stack; the table grows by at most
//! one value a byte.
//! Source: CPython, `Lib/pickletools.py`.

use std::collections::HashMap;

use thiserror::Error;

/// Number of a value in its table.
pub(super) type Id = usize;

/// One value of a pickle.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// None, a float, or another kind that weights have no use for.
    Idle,
    /// A whole number or a truth value.
    Int(i64),
    /// A text.
    Text(String),
    /// A class or function, as `module name`.
    Global(String),
    /// A tuple or list.
    Sequence(Vec<Id>),
    /// A dictionary, in the order of insertion.
    Dict(Vec<(Id, Id)>),
    /// Something that lies outside the pickle, by what names it.
    Outside(Id),
    /// A call that is not made: function and arguments.
    Call(Id, Id),
}

/// Why bytes are no pickle that can be read.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(super) enum PickleError {
    #[error("its pickle ends at byte {at}, before its end")]
    Short { at: usize },
    #[error("its pickle has the operation {code:#04x} at byte {at}, which state dictionaries lack")]
    Operation { code: u8, at: usize },
    #[error("its pickle uses a value at byte {at} that is not there or of another kind")]
    Value { at: usize },
}

/// The values of a pickle, and which of them it is about.
#[derive(Debug)]
pub(super) struct Pickle {
    values: Vec<Value>,
    pub(super) root: Id,
}

impl Pickle {
    /// Reads a pickle of protocol 2 to 5.
    pub(super) fn read(bytes: &[u8]) -> Result<Pickle, PickleError> {
        let mut machine = Machine {
            bytes,
            at: 0,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        };
        while machine.step()? {}
        let root = machine.pop()?;
        Ok(Pickle { values: machine.values, root })
    }

    pub(super) fn get(&self, id: Id) -> &Value {
        // Ids are made by the machine alone and never outlive it.
        self.values.get(id).unwrap_or(&Value::Idle)
    }

    pub(super) fn text(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn sequence(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Value::Sequence(items) => Some(items),
            _ => None,
        }
    }

    /// A sequence of numbers of zero or more.
    pub(super) fn sizes(&self, id: Id) -> Option<Vec<usize>> {
        self.sequence(id)?.iter().map(|item| self.size(*item)).collect()
    }

    pub(super) fn size(&self, id: Id) -> Option<usize> {
        match self.get(id) {
            Value::Int(number) => usize::try_from(*number).ok(),
            _ => None,
        }
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value>,
    stack: Vec<Id>,
    /// Heights of the stack at the open marks.
    marks: Vec<usize>,
    memo: HashMap<usize, Id>,
}

impl<'a> Machine<'a> {
    /// Performs one operation; false at the end.
    fn step(&mut self) -> Result<bool, PickleError> {
        let at = self.at;
        let [code] = self.array()?;
        match code {
            b'.' => return Ok(false),
            0x80 => self.skip(1)?,
            0x95 => self.skip(8)?,
            b'(' => self.marks.push(self.stack.len()),
            b'0' => self.pop().map(|_| ())?,
            b'1' => self.cut_at_mark().map(|_| ())?,
            b'2' => self.top().map(|id| self.stack.push(id))?,
            b'N' | b'G' | b'J' | b'K' | b'M' | 0x88..=0x8b => self.number(code)?,
            b'X' | 0x8c | b'U' | b'T' => self.string(code)?,
            b'c' | 0x93 => self.global(code)?,
            b'q' | b'r' | 0x94 | b'h' | b'j' => self.remember(code)?,
            b')' | b']' | b'}' | b't' | b'l' | b'd' | 0x85..=0x87 => self.collection(code)?,
            b'a' | b'e' | b's' | b'u' => self.add(code)?,
            b'Q' => {
                let name = self.pop()?;
                self.push(Value::Outside(name));
            }
            b'R' | 0x81 => self.call()?,
            // The state of an object (such as `_metadata`) is no weight.
            b'b' => self.pop().map(|_| ())?,
            code => return Err(PickleError::Operation { code, at }),
        }
        Ok(true)
    }

    fn number(&mut self, code: u8) -> Result<(), PickleError> {
        let value = match code {
            b'J' => Value::Int(i64::from(i32::from_le_bytes(self.array()?))),
            b'M' => Value::Int(i64::from(u16::from_le_bytes(self.array()?))),
            b'K' => {
                let [byte] = self.array()?;
                Value::Int(i64::from(byte))
            }
            0x88 => Value::Int(1),
            0x89 => Value::Int(0),
            0x8a => {
                let [length] = self.array()?;
                let bytes = self.take(usize::from(length))?;
                long(bytes).map_or(Value::Idle, Value::Int)
            }
            0x8b => {
                let length = self.length4()?;
                self.take(length)?;
                Value::Idle
            }
            b'G' => {
                self.skip(8)?;
                Value::Idle
            }
            _ => Value::Idle,
        };
        self.push(value);
        Ok(())
    }

    fn string(&mut self, code: u8) -> Result<(), PickleError> {
        let length = match code {
            b'X' | b'T' => self.length4()?,
            _ => {
                let [length] = self.array()?;
                usize::from(length)
            }
        };
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.push(Value::Text(text));
        Ok(())
    }

    fn global(&mut self, code: u8) -> Result<(), PickleError> {
        let (module, name) = if code == b'c' {
            (self.line()?, self.line()?)
        } else {
            let (name, module) = (self.pop()?, self.pop()?);
            (self.text(module)?, self.text(name)?)
        };
        self.push(Value::Global(format!("{module} {name}")));
        Ok(())
    }

    fn remember(&mut self, code: u8) -> Result<(), PickleError> {
        let key = match code {
            b'q' | b'h' => {
                let [key] = self.array()?;
                usize::from(key)
            }
            b'r' | b'j' => self.length4()?,
            _ => self.memo.len(),
        };
        if code == b'h' || code == b'j' {
            let id = *self.memo.get(&key).ok_or_else(|| self.wrong())?;
            self.stack.push(id);
        } else {
            let id = self.top()?;
            self.memo.insert(key, id);
        }
        Ok(())
    }

    fn collection(&mut self, code: u8) -> Result<(), PickleError> {
        let value = match code {
            b')' | b']' => Value::Sequence(Vec::new()),
            b'}' => Value::Dict(Vec::new()),
            b't' | b'l' => Value::Sequence(self.cut_at_mark()?),
            b'd' => {
                let items = self.cut_at_mark()?;
                Value::Dict(self.pairs(&items)?)
            }
            count => {
                let count = usize::from(count.saturating_sub(0x84));
                let first = self.stack.len().checked_sub(count).ok_or_else(|| self.wrong())?;
                Value::Sequence(self.stack.split_off(first))
            }
        };
        self.push(value);
        Ok(())
    }

    fn add(&mut self, code: u8) -> Result<(), PickleError> {
        let items = match code {
            b'a' => vec![self.pop()?],
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.cut_at_mark()?,
        };
        let target = self.top()?;
        let pairs = if matches!(code, b's' | b'u') { self.pairs(&items)? } else { Vec::new() };
        let wrong = self.wrong();
        match self.values.get_mut(target) {
            Some(Value::Sequence(list)) if matches!(code, b'a' | b'e') => list.extend(items),
            Some(Value::Dict(dict)) if matches!(code, b's' | b'u') => dict.extend(pairs),
            _ => return Err(wrong),
        }
        Ok(())
    }

    fn call(&mut self) -> Result<(), PickleError> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let is_dict = matches!(self.values.get(function), Some(Value::Global(name))
            if name == "collections OrderedDict" || name == "builtins dict");
        self.push(if is_dict { Value::Dict(Vec::new()) } else { Value::Call(function, arguments) });
        Ok(())
    }

    fn pairs(&self, items: &[Id]) -> Result<Vec<(Id, Id)>, PickleError> {
        let (pairs, rest) = items.as_chunks::<2>();
        if rest.is_empty() {
            Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect())
        } else {
            Err(self.wrong())
        }
    }

    fn push(&mut self, value: Value) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    fn pop(&mut self) -> Result<Id, PickleError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(self.wrong());
        }
        self.stack.pop().ok_or_else(|| self.wrong())
    }

    fn top(&self) -> Result<Id, PickleError> {
        self.stack.last().copied().ok_or_else(|| self.wrong())
    }

    fn cut_at_mark(&mut self) -> Result<Vec<Id>, PickleError> {
        let mark = self.marks.pop().ok_or_else(|| self.wrong())?;
        Ok(self.stack.split_off(mark))
    }

    fn text(&self, id: Id) -> Result<String, PickleError> {
        match self.values.get(id) {
            Some(Value::Text(text)) => Ok(text.clone()),
            _ => Err(self.wrong()),
        }
    }

    fn line(&mut self) -> Result<String, PickleError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|byte| *byte == b'\n');
        let length = length.ok_or(PickleError::Short { at: self.bytes.len() })?;
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.skip(1)?;
        Ok(text)
    }

    fn length4(&mut self) -> Result<usize, PickleError> {
        let length = u32::from_le_bytes(self.array()?);
        usize::try_from(length).map_err(|_| self.wrong())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let at = self.at;
        self.take(N)?.try_into().map_err(|_| PickleError::Short { at })
    }

    fn skip(&mut self, count: usize) -> Result<(), PickleError> {
        self.take(count).map(|_| ())
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], PickleError> {
        let short = PickleError::Short { at: self.bytes.len() };
        let end = self.at.checked_add(count).ok_or(short)?;
        let taken = self.bytes.get(self.at..end).ok_or(short)?;
        self.at = end;
        Ok(taken)
    }

    fn wrong(&self) -> PickleError {
        PickleError::Value { at: self.at }
    }
}

/// A little-endian two's complement number, where it fits 64 bits.
fn long(bytes: &[u8]) -> Option<i64> {
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut all = if negative { [0xFF; 8] } else { [0; 8] };
    all.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(i64::from_le_bytes(all))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_dictionary_as_python_writes_it_reads_back() {
        // Origin: pickle.dumps({"a": (1, 300, -2), "b": True}, 2).hex().
        let bytes: Vec<u8> = "80027d7100285801000000617101 4b014d2c014afeffffff877102\
                              5801000000627103 88752e"
            .replace(' ', "")
            .as_bytes()
            .as_chunks::<2>()
            .0
            .iter()
            .map(|digits| u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap())
            .collect();
        let pickle = Pickle::read(&bytes).unwrap();
        let Value::Dict(entries) = pickle.get(pickle.root) else { panic!("a dictionary") };
        assert_eq!(pickle.text(entries[0].0), Some("a"));
        let items = pickle.sequence(entries[0].1).unwrap();
        assert_eq!(pickle.size(items[1]), Some(300));
        assert_eq!(pickle.get(items[2]), &Value::Int(-2));
        assert_eq!(pickle.size(entries[1].1), Some(1));
    }

    #[test]
    fn long_numbers_keep_their_sign() {
        assert_eq!((long(&[0xFF]), long(&[0x80, 0x00])), (Some(-1), Some(128)));
        assert_eq!((long(&[]), long(&[1; 9])), (Some(0), None));
    }

    #[test]
    fn a_million_nested_tuples_do_no_harm() {
        let mut bytes = vec![b')'];
        bytes.resize(1_000_000, 0x85);
        bytes.push(b'.');
        assert!(Pickle::read(&bytes).is_ok());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_pickle_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Pickle::read(&bytes);
        }

        #[test]
        fn any_run_of_known_operations_is_a_pickle_or_an_error(
            picks in proptest::collection::vec((0_usize..24, any::<u8>()), 0..120)
        ) {
            let known = b"(.012NKc\x93q\x94h)]}tld\x85aesuQRb";
            let bytes: Vec<u8> = picks.iter().flat_map(|(pick, argument)| {
                [known[*pick], *argument % 8]
            }).collect();
            let _ = Pickle::read(&bytes);
        }
    }
}
