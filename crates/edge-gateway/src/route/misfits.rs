//! Why a request does not take a route: said by what the look-up itself goes by.

use configuration::nearest;
use http1::RequestHead;

use super::{Route, RouteTable};
use crate::path::plain;

/// Why a request does not take a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfit<'a> {
    /// It would, but another one that wants more of a request comes first.
    Behind,
    /// It lacks this field with this value.
    Field(&'a str, &'a str),
    /// Its method is another.
    Method,
    /// Its host is another.
    Host,
    /// Its path is another.
    Path,
}

impl RouteTable {
    /// Every route but the one that a request takes, with why it takes none of them; those that it misses by least come first.
    pub(crate) fn misfits(&self, head: &RequestHead, taken: Option<&Route>) -> Vec<(&Route, Misfit<'_>)> {
        let is_taken = |route: &Route| taken.is_some_and(|taken| taken.number == route.number);
        let others = self.routes.iter().filter(|route| !is_taken(route));
        let mut misfits: Vec<_> = others.map(|route| (route, self.misfit(route, head))).collect();
        misfits.sort_by_key(|(_, misfit)| match misfit {
            Misfit::Behind => 0,
            Misfit::Field(..) => 1,
            Misfit::Method => 2,
            Misfit::Host => 3,
            Misfit::Path => 4,
        });
        misfits
    }

    fn misfit<'a>(&self, route: &'a Route, head: &RequestHead) -> Misfit<'a> {
        if !leads_to(route, head) {
            return Misfit::Path;
        }
        let own = self.hosts.patterns(route.host.as_ref());
        let is_of_host =
            self.hosts.of(head.host()).any(|of_host| own.is_some_and(|own| std::ptr::eq(own, of_host)));
        if !is_of_host {
            Misfit::Host
        } else if !route.takes_method(head.method()) {
            Misfit::Method
        } else if let Some((name, value)) = route.lacked_by(head) {
            Misfit::Field(name, value)
        } else {
            Misfit::Behind
        }
    }

    /// The routes whose paths are nearest to this one, at most so many.
    pub fn nearest(&self, path: &str, most: usize) -> Vec<&Route> {
        let path = path.split('?').next().unwrap_or_default();
        let meant = nearest(path, self.routes.iter().map(|route| route.template.as_str()));
        let shared = |route: &Route| {
            let (own, asked) = (route.template.split('/'), path.split('/'));
            own.zip(asked).take_while(|(own, asked)| own.starts_with('{') || own == asked).count()
        };
        // Every path begins with what stands before its first slash, which is nothing.
        let mut near: Vec<_> = self.routes.iter().map(|route| (shared(route), route)).collect();
        near.retain(|(shared, route)| *shared > 1 || meant == Some(&route.template));
        near.sort_by_key(|(shared, route)| (meant != Some(&route.template), std::cmp::Reverse(*shared)));
        near.into_iter().take(most).map(|(_, route)| route).collect()
    }
}

/// Whether the path alone would lead there.
fn leads_to(route: &Route, head: &RequestHead) -> bool {
    let mut alone = matchit::Router::new();
    let path = plain(head.path());
    alone.insert(route.template.as_str(), ()).is_ok()
        && std::str::from_utf8(&path).is_ok_and(|path| alone.at(path).is_ok())
}
