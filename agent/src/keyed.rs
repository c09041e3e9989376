//! A TOML table read key by key: the agent's configuration and the board
//! profiles, whose authors are told the file, the place and the key.
//!
//! Owns the errors and the checks of single values. Knows no key's meaning.

use thiserror::Error;
use toml::{Table, Value};
use wattline_protocol::campaign_spec::nearest_of;

/// Longest text of a value, in bytes: names that fit a terminal's line.
const TEXT_BYTES_MAX: usize = 200;
/// Entries of a list or tables of one name at most; boards have a dozen rails.
pub const ENTRIES_MAX: usize = 64;

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file is not TOML.
    #[error("{file}, line {line}: {message}")]
    Syntax {
        /// The file.
        file: String,
        /// Line of it, from 1; 0 where it is not known.
        line: usize,
        /// The parser's words.
        message: String,
    },
    /// A key that the place does not have.
    #[error("{file}{place}: unknown key `{key}`, did you mean `{nearest}`?")]
    Unknown {
        /// The file.
        file: String,
        /// Where in it.
        place: String,
        /// The key.
        key: String,
        /// The known key nearest to it.
        nearest: String,
    },
    /// A key that must be there and is not.
    #[error("{file}{place}: `{key}` is missing")]
    Missing {
        /// The file.
        file: String,
        /// Where in it.
        place: String,
        /// The key.
        key: &'static str,
    },
    /// A value that the key does not take.
    #[error("{file}{place}: `{key}` is {value}, allowed is {allowed}")]
    Value {
        /// The file.
        file: String,
        /// Where in it.
        place: String,
        /// The key.
        key: &'static str,
        /// What stands there, cut to 80 characters.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// Two places that must differ in a key do not.
    #[error("{file}{place}: `{key}` is {value}, as in{other}")]
    Twice {
        /// The file.
        file: String,
        /// Where in it.
        place: String,
        /// The key.
        key: &'static str,
        /// What both say.
        value: String,
        /// The place before it.
        other: String,
    },
}

/// A table of a file.
#[derive(Debug, Clone)]
pub struct Keyed<'a> {
    file: &'a str,
    /// Empty at the top; else ` rail 2 (VIN)`.
    place: String,
    table: Table,
}

impl<'a> Keyed<'a> {
    /// The top table of `text`, which is the file `file`.
    ///
    /// # Errors
    /// [`KeyError::Syntax`] with the line.
    pub fn parse(file: &'a str, text: &str) -> Result<Self, KeyError> {
        let table = text.parse::<Table>().map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            KeyError::Syntax {
                file: file.to_owned(),
                line: before.map_or(0, |before| before.matches('\n').count() + 1),
                message: error.message().to_owned(),
            }
        })?;
        Ok(Self { file, place: String::new(), table })
    }

    /// Where this table is, for an error.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Refuses keys that are not in `known`.
    ///
    /// # Errors
    /// [`KeyError::Unknown`] with the nearest of them.
    pub fn only(&self, known: &[&str]) -> Result<(), KeyError> {
        let Some(key) = self.table.keys().find(|key| !known.contains(&key.as_str())) else {
            return Ok(());
        };
        Err(KeyError::Unknown {
            file: self.file.to_owned(),
            place: self.place.clone(),
            key: cut(key),
            nearest: nearest_of(key, known).unwrap_or_default().to_owned(),
        })
    }

    /// The tables `[[key]]`, none where the key is absent; each is named by its
    /// number and, where it has one, by the text at `name`.
    ///
    /// # Errors
    /// [`KeyError::Value`] where the key is something else.
    pub fn tables(&self, key: &'static str, name: &str) -> Result<Vec<Self>, KeyError> {
        let Some(value) = self.table.get(key) else { return Ok(Vec::new()) };
        let allowed =
            || self.wrong(key, value, &format!("tables [[{key}]], {ENTRIES_MAX} at most"));
        let list = value.as_array().filter(|list| list.len() <= ENTRIES_MAX).ok_or_else(allowed)?;
        let table = |(index, entry): (usize, &Value)| {
            let table = entry.as_table().ok_or_else(allowed)?.clone();
            let named = table.get(name).and_then(Value::as_str);
            let named = named.map_or_else(String::new, |name| format!(" ({})", cut(name)));
            Ok(Self { file: self.file, place: format!(" {key} {}{named}", index + 1), table })
        };
        list.iter().enumerate().map(table).collect()
    }

    /// A text that may be absent.
    ///
    /// # Errors
    /// [`KeyError::Value`] for what is no text, empty, too long or not printable.
    pub fn text(&self, key: &'static str) -> Result<Option<String>, KeyError> {
        let Some(value) = self.table.get(key) else { return Ok(None) };
        text_of(value).map(Some).ok_or_else(|| {
            self.wrong(key, value, &format!("a text of 1 to {TEXT_BYTES_MAX} printable letters"))
        })
    }

    /// A list of texts, empty where it is absent.
    ///
    /// # Errors
    /// As [`Self::text`].
    pub fn texts(&self, key: &'static str) -> Result<Vec<String>, KeyError> {
        let Some(value) = self.table.get(key) else { return Ok(Vec::new()) };
        let list = value.as_array().filter(|list| list.len() <= ENTRIES_MAX);
        let texts = list.and_then(|list| list.iter().map(text_of).collect::<Option<Vec<_>>>());
        texts.ok_or_else(|| self.wrong(key, value, "a list of texts"))
    }

    /// A whole number within `range` that may be absent.
    ///
    /// # Errors
    /// [`KeyError::Value`] for everything else.
    pub fn whole(
        &self,
        key: &'static str,
        range: core::ops::RangeInclusive<u8>,
        allowed: &str,
    ) -> Result<Option<u8>, KeyError> {
        let Some(value) = self.table.get(key) else { return Ok(None) };
        let number = value.as_integer().and_then(|number| u8::try_from(number).ok());
        let number = number.filter(|number| range.contains(number));
        number.map(Some).ok_or_else(|| self.wrong(key, value, allowed))
    }

    /// A number above `least` and up to `most` that may be absent.
    ///
    /// # Errors
    /// [`KeyError::Value`] for everything else.
    pub fn number(
        &self,
        key: &'static str,
        (least, most): (f64, f64),
        allowed: &str,
    ) -> Result<Option<f64>, KeyError> {
        let Some(value) = self.table.get(key) else { return Ok(None) };
        #[expect(clippy::cast_precision_loss, reason = "ohms as whole numbers are small")]
        let number = value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64));
        let number = number.filter(|&number| number > least && number <= most);
        number.map(Some).ok_or_else(|| self.wrong(key, value, allowed))
    }

    /// True or false; `false` where it is absent.
    ///
    /// # Errors
    /// [`KeyError::Value`] for everything else.
    pub fn is(&self, key: &'static str) -> Result<bool, KeyError> {
        let Some(value) = self.table.get(key) else { return Ok(false) };
        value.as_bool().ok_or_else(|| self.wrong(key, value, "true or false"))
    }

    /// What `parse` makes of a text that may be absent.
    ///
    /// # Errors
    /// [`KeyError::Value`] where it makes nothing of it.
    pub fn parsed<T>(
        &self,
        key: &'static str,
        allowed: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, KeyError> {
        let Some(value) = self.table.get(key) else { return Ok(None) };
        let parsed = value.as_str().and_then(parse);
        parsed.map(Some).ok_or_else(|| self.wrong(key, value, allowed))
    }

    /// The value, which must be there.
    ///
    /// # Errors
    /// [`KeyError::Missing`].
    pub fn there<T>(&self, key: &'static str, value: Option<T>) -> Result<T, KeyError> {
        value.ok_or_else(|| KeyError::Missing {
            file: self.file.to_owned(),
            place: self.place.clone(),
            key,
        })
    }

    /// The error of a value that is not allowed here.
    #[must_use]
    pub fn refused(&self, key: &'static str, allowed: &str) -> KeyError {
        let absent = Value::String("absent".into());
        self.wrong(key, self.table.get(key).unwrap_or(&absent), allowed)
    }

    /// The error of a value that stands at `other` as well.
    #[must_use]
    pub fn twice(&self, key: &'static str, value: &str, other: &str) -> KeyError {
        KeyError::Twice {
            file: self.file.to_owned(),
            place: self.place.clone(),
            key,
            value: cut(value),
            other: other.to_owned(),
        }
    }

    fn wrong(&self, key: &'static str, value: &Value, allowed: &str) -> KeyError {
        KeyError::Value {
            file: self.file.to_owned(),
            place: self.place.clone(),
            key,
            value: cut(&value.to_string()),
            allowed: allowed.to_owned(),
        }
    }
}

fn text_of(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    let fits = (1..=TEXT_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned())
}

fn cut(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(80).collect()
}
