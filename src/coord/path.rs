//! The path of a znode, checked once.

use std::fmt;
use std::str::FromStr;

use crate::limits;

/// An absolute path of a znode, such as `/mediciones/1`. It is what ZooKeeper takes: no empty part, no `.` and `..`, no
/// control characters, no slash at its end but for the root.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ZnodePath(String);

/// Text that is no path of a znode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no path of a znode: {cause}; write one such as /mediciones/1")]
pub struct BadPath {
    text: String,
    cause: &'static str,
}

impl ZnodePath {
    /// The root.
    #[must_use]
    pub fn root() -> Self {
        Self("/".to_owned())
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its last part; nothing for the root.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.rsplit_once('/').map_or("", |(_, name)| name)
    }

    /// The path of a child.
    ///
    /// # Errors
    /// `name` is not one part of a path.
    pub fn child(&self, name: &str) -> Result<Self, BadPath> {
        if name.is_empty() || name.contains('/') {
            return Err(BadPath { text: name.to_owned(), cause: "a child's name is one word without a slash" });
        }
        self.below(name).parse()
    }

    /// The path of a child that a server named: it is one.
    pub(super) fn listed(&self, name: &str) -> Self {
        Self(self.below(name))
    }

    /// The znode above; none above the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let (parent, name) = self.0.rsplit_once('/')?;
        if name.is_empty() {
            return None;
        }
        Some(if parent.is_empty() { Self::root() } else { Self(parent.to_owned()) })
    }

    fn below(&self, name: &str) -> String {
        if self.0 == "/" { format!("/{name}") } else { format!("{}/{name}", self.0) }
    }
}

impl fmt::Display for ZnodePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ZnodePath {
    type Err = BadPath;

    fn from_str(text: &str) -> Result<Self, BadPath> {
        match fault(text) {
            Some(cause) => Err(BadPath { text: text.chars().take(limits::ZNODE_PATH_BYTES_MAX).collect(), cause }),
            None => Ok(Self(text.to_owned())),
        }
    }
}

fn fault(text: &str) -> Option<&'static str> {
    let Some(rest) = text.strip_prefix('/') else { return Some("it begins with a slash") };
    if text.len() > limits::ZNODE_PATH_BYTES_MAX {
        return Some("it is too long");
    }
    if rest.is_empty() {
        return None;
    }
    for part in rest.split('/') {
        match part {
            "" => return Some("no part of it is empty, and it ends without a slash"),
            "." | ".." => return Some("it is absolute, without . and .."),
            _ => {}
        }
    }
    rest.chars().any(unwritable).then_some("it holds a character that ZooKeeper refuses")
}

fn unwritable(c: char) -> bool {
    c.is_control() || matches!(u32::from(c), 0xd800..=0xf8ff | 0xfff0..=0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> ZnodePath {
        text.parse().unwrap()
    }

    #[test]
    fn parents_and_children_fit_together() {
        assert_eq!(path("/a/b").child("c").unwrap(), path("/a/b/c"));
        assert_eq!(ZnodePath::root().child("a").unwrap(), path("/a"));
        assert_eq!(path("/a/b").parent(), Some(path("/a")));
        assert_eq!(path("/a").parent(), Some(ZnodePath::root()));
        assert_eq!(ZnodePath::root().parent(), None);
        assert_eq!(path("/a/b").name(), "b");
        for name in ["", "a/b", "..", "a\n"] {
            assert!(path("/a").child(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn what_zookeeper_refuses_is_refused_here() {
        for text in ["/", "/a", "/mediciones/app 1", "/路径", "/a/.b", "/a/..."] {
            assert!(text.parse::<ZnodePath>().is_ok(), "{text}");
        }
        let long = format!("/{}", "x".repeat(limits::ZNODE_PATH_BYTES_MAX));
        for text in ["", "a", "a/b", "//", "/a/", "/a//b", "/a/./b", "/..", "/a\u{0}", "/\u{fff0}", &long] {
            let error = text.parse::<ZnodePath>().unwrap_err().to_string();
            assert!(error.contains("is no path of a znode"), "{error}");
        }
    }
}
