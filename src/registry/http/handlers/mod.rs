//! The resources of the registry, and what each method does there: a file per
//! action, a line per route.

mod base;
mod blob;
mod catalog;
mod conditional;
mod gitlab;
mod manifest;
mod referrers;
mod tags;
mod upload;

use std::sync::LazyLock;

use hyper::Method;

use super::authorize::{descendants, descendants_if_asked, mount_source};
use super::row::{Needs, Row, When, run};
use crate::registry::oci::RepoName;
use crate::serve::route::{Table, route};

const LOGIN: Needs = Needs::Login;
const CATALOG: Needs = Needs::Registry("catalog");
const STATISTICS: Needs = Needs::Registry("statistics");
const PULL: Needs = Needs::Repository(&["pull"]);
const PUSH: Needs = Needs::Repository(&["push"]);
const PULL_PUSH: Needs = Needs::Repository(&["pull", "push"]);
const DELETE: Needs = Needs::Repository(&["delete"]);

/// Where clients ask whether this is a registry, and how it is.
pub const VERSION_CHECK: &str = "/v2/";

/// The route table.
pub static ROUTES: LazyLock<Table<Row>> = LazyLock::new(|| {
    let deletion = |row: Row| row.when(When::Deletion);
    let database = |row: Row| row.when(When::Database);
    Table::new(
        |name| name.parse::<RepoName>().is_ok(),
        [
            route(VERSION_CHECK, [get(Row::new(run!(base::get()), LOGIN))]),
            route("/v2/_catalog", [get(Row::new(run!(catalog::get()), CATALOG))]),
            route("/v2/{name}/tags/list", [get(Row::new(run!(tags::get(name)), PULL))]),
            route(
                "/v2/{name}/manifests/{reference}",
                [
                    get(Row::new(run!(manifest::get(name, reference)), PULL)),
                    put(Row::new(run!(manifest::put(name, reference)), PULL_PUSH)),
                    delete(deletion(Row::new(run!(manifest::delete(name, reference)), DELETE))),
                ],
            ),
            route(
                "/v2/{name}/referrers/{digest}",
                [get(Row::new(run!(referrers::get(name, digest)), PULL))],
            ),
            route(
                "/v2/{name}/blobs/uploads/",
                [post(Row::new(run!(upload::start(name)), PULL_PUSH).also(mount_source))],
            ),
            route(
                "/v2/{name}/blobs/uploads/{uuid}",
                [
                    get(Row::new(run!(upload::status(name, uuid)), PULL)),
                    patch(Row::new(run!(upload::chunk(name, uuid)), PULL_PUSH)),
                    put(Row::new(run!(upload::finish(name, uuid)), PULL_PUSH)),
                    delete(Row::new(run!(upload::cancel(name, uuid)), PUSH)),
                ],
            ),
            route(
                "/v2/{name}/blobs/{digest}",
                [
                    get(Row::new(run!(blob::get(name, digest)), PULL)),
                    delete(deletion(Row::new(run!(blob::delete(name, digest)), DELETE))),
                ],
            ),
            // Rails asks whether this is GitLab's registry with a database.
            route("/gitlab/v1/", [get(database(Row::new(run!(gitlab::base()), LOGIN)))]).lenient(),
            route(
                "/gitlab/v1/statistics/",
                [get(database(Row::new(run!(gitlab::statistics()), STATISTICS)))],
            )
            .lenient(),
            route(
                "/gitlab/v1/repositories/{path}/tags/list/",
                [get(database(Row::new(run!(gitlab::tags(path)), PULL)))],
            )
            .lenient(),
            route(
                "/gitlab/v1/repositories/{path}/tags/detail/{tag}/",
                [get(database(Row::new(run!(gitlab::tag(path, tag)), PULL)))],
            )
            .lenient(),
            route(
                "/gitlab/v1/repositories/{path}/",
                [
                    get(database(
                        Row::new(run!(gitlab::repository(path)), PULL).also(descendants_if_asked),
                    )),
                    patch(database(
                        Row::new(run!(gitlab::rename(path)), PULL_PUSH).also(descendants),
                    )),
                ],
            )
            .lenient(),
            route(
                "/gitlab/v1/repository-paths/{path}/repositories/list/",
                [get(database(
                    Row::new(run!(gitlab::below(path)), PULL).also(descendants),
                ))],
            )
            .lenient(),
        ],
    )
});

fn get(row: Row) -> (Method, Row) {
    (Method::GET, row)
}

fn put(row: Row) -> (Method, Row) {
    (Method::PUT, row)
}

fn post(row: Row) -> (Method, Row) {
    (Method::POST, row)
}

fn patch(row: Row) -> (Method, Row) {
    (Method::PATCH, row)
}

fn delete(row: Row) -> (Method, Row) {
    (Method::DELETE, row)
}
