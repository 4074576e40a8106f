//! Where our answers differ from those of other registries, and why.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::answer::Answer;

/// One thing that is not the same.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The request.
    pub step: String,
    /// `status`, `body`, or a header.
    pub aspect: String,
    pub theirs: String,
    pub ours: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            step,
            aspect,
            theirs,
            ours,
        } = self;
        write!(f, "{step} | {aspect} | {theirs} | {ours}")
    }
}

/// Compares two recordings.
pub fn between(theirs: &BTreeMap<String, Answer>, ours: &BTreeMap<String, Answer>) -> Vec<Difference> {
    let none = Answer {
        status: 0,
        headers: BTreeMap::new(),
        body: Value::Null,
    };
    let mut steps: Vec<&String> = theirs.keys().chain(ours.keys()).collect();
    steps.sort();
    steps.dedup();
    steps
        .into_iter()
        .flat_map(|step| {
            let (theirs, ours) = (theirs.get(step).unwrap_or(&none), ours.get(step).unwrap_or(&none));
            aspects(theirs, ours)
                .into_iter()
                .filter(|(_, theirs, ours)| theirs != ours)
                .map(|(aspect, theirs, ours)| Difference {
                    step: step.clone(),
                    aspect,
                    theirs,
                    ours,
                })
        })
        .collect()
}

fn aspects(theirs: &Answer, ours: &Answer) -> Vec<(String, String, String)> {
    let mut all = vec![
        ("status".to_owned(), theirs.status.to_string(), ours.status.to_string()),
        ("body".to_owned(), theirs.body.to_string(), ours.body.to_string()),
    ];
    let mut names: Vec<&String> = theirs.headers.keys().chain(ours.headers.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let of = |answer: &Answer| answer.headers.get(name).cloned().unwrap_or_default();
        all.push((name.clone(), of(theirs), of(ours)));
    }
    all
}

/// A difference that is meant.
struct Reason {
    /// Registries that answer otherwise; "link files" is ours without a database.
    registries: &'static [&'static str],
    /// What differs; anything where this is empty.
    aspects: &'static [&'static str],
    /// The requests, without their numbers; all where one is empty.
    steps: &'static [&'static str],
    /// Why ours is as it is, and what says so.
    why: &'static str,
}

impl Reason {
    fn fits(&self, difference: &Difference, step: &str) -> bool {
        let named = difference.step.split_once(' ').map_or("", |(_, name)| name);
        (self.aspects.is_empty() || self.aspects.contains(&difference.aspect.as_str()))
            && (step.is_empty() || step == named)
    }

    fn explains(&self, difference: &Difference) -> bool {
        self.steps.iter().any(|step| self.fits(difference, step))
    }
}

const BOTH: &[&str] = &["docker-registry", "distribution"];

const REASONS: &[Reason] = &[
    Reason {
        registries: &["link files"],
        aspects: &[],
        steps: &[
            "removal: a manifest",
            "removal: a manifest again",
            "removal: its tag",
            "removal: tags after it",
        ],
        why: "beside a database an image that an index names is not deleted: MANIFEST_REFERENCED (GitLab's registry)",
    },
    Reason {
        registries: BOTH,
        aspects: &["x-content-type-options"],
        steps: &[""],
        why: "every answer says nosniff: a browser must not take a blob for a page (GitLab's registry)",
    },
    Reason {
        registries: BOTH,
        aspects: &[],
        steps: &["base: the base without its slash"],
        why: "a redirect needs no page (RFC 9110, section 15.4)",
    },
    Reason {
        registries: BOTH,
        aspects: &[],
        steps: &["base: POST to the base"],
        why: "the base has GET alone (OCI distribution spec, end-1); other methods get 405 (RFC 9110, section 15.5.6)",
    },
    Reason {
        registries: BOTH,
        aspects: &["docker-distribution-api-version"],
        steps: &["base: version 1"],
        why: "the header says that version 2 is here (Docker Registry V2, API version check); version 1 is not",
    },
    Reason {
        registries: BOTH,
        aspects: &[],
        steps: &["names: three hundred letters"],
        why: "a name that is too long is the client's mistake, as other wrong names are, and no fault of the server (OCI distribution spec, pulling manifests)",
    },
    Reason {
        registries: BOTH,
        aspects: &[],
        steps: &["names: a tag with a wrong letter", "names: a tag of 129 letters"],
        why: "what no tag can be called is a manifest that is not there, with its code (OCI distribution spec, pulling manifests)",
    },
    Reason {
        registries: BOTH,
        aspects: &[],
        steps: &["manifests: put under a tag that is none"],
        why: "TAG_INVALID names what is wrong (Docker Registry V2, errors)",
    },
    Reason {
        registries: BOTH,
        aspects: &["allow"],
        steps: &[
            "catalog: POST",
            "blobs: PUT",
            "manifests: POST",
            "manifests: PATCH",
            "tags: DELETE",
        ],
        why: "Allow lists every method that is answered, OPTIONS too (RFC 9110, section 10.2.1)",
    },
    Reason {
        registries: BOTH,
        aspects: &["docker-upload-uuid", "range"],
        steps: &["uploads: a chunk that leaves a gap"],
        why: "a refused chunk says where to go on (OCI distribution spec, pushing a blob in chunks)",
    },
    Reason {
        registries: &["docker-registry"],
        aspects: &["status", "body", "content-type", "location"],
        steps: &["uploads: a chunk that leaves a gap"],
        why: "a chunk out of order gets 416 (OCI distribution spec, pushing a blob in chunks)",
    },
    Reason {
        registries: BOTH,
        aspects: &[],
        steps: &["uploads: a range that is none"],
        why: "a range that cannot be read fits nowhere: 416 (OCI distribution spec, pushing a blob in chunks)",
    },
    Reason {
        registries: &["docker-registry"],
        aspects: &[],
        steps: &["uploads: a range longer than its bytes"],
        why: "a chunk is as long as its range (OCI distribution spec, pushing a blob in chunks)",
    },
    Reason {
        registries: BOTH,
        aspects: &[],
        steps: &["uploads: in one request"],
        why: "one POST can push a blob (OCI distribution spec, end-4b)",
    },
    Reason {
        registries: &["docker-registry"],
        aspects: &["body"],
        steps: &["uploads: status of a stranger"],
        why: "an upload that is not known is BLOB_UPLOAD_UNKNOWN (OCI distribution spec, code-4)",
    },
    Reason {
        registries: BOTH,
        aspects: &["body"],
        steps: &["uploads: a chunk for a stranger", "uploads: the end of a stranger"],
        why: "an upload that is not known is BLOB_UPLOAD_UNKNOWN (OCI distribution spec, code-4)",
    },
    Reason {
        registries: BOTH,
        aspects: &[],
        steps: &["blobs: beyond the end"],
        why: "Content-Range says how long the blob is; there is no more to say, and none is announced that does not come (RFC 9110, section 15.5.17)",
    },
    Reason {
        registries: BOTH,
        aspects: &[],
        steps: &["blobs: a range that is none"],
        why: "a Range that cannot be read is passed over (RFC 9110, section 14.2)",
    },
    Reason {
        registries: BOTH,
        aspects: &[],
        steps: &["manifests: put as a type of nobody's", "manifests: put without a type"],
        why: "a manifest says itself what it is (OCI image spec, mediaType); a client that says less than that pushes all the same",
    },
    Reason {
        registries: BOTH,
        aspects: &["status"],
        steps: &["manifests: put five megabytes"],
        why: "413 says that it is too large (OCI distribution spec, pushing manifests)",
    },
    Reason {
        registries: BOTH,
        aspects: &["oci-subject"],
        steps: &["manifests: put with a subject"],
        why: "OCI-Subject tells clients not to keep a list of referrers themselves (OCI distribution spec, pushing manifests with subject)",
    },
    Reason {
        registries: BOTH,
        aspects: &[],
        steps: &["manifests: get, naming no type", "manifests: get, taking another type"],
        why: "a manifest comes as it was pushed, whatever a client names: one that cannot use it says so itself (OCI distribution spec, pulling manifests)",
    },
    Reason {
        registries: &["docker-registry"],
        aspects: &[],
        steps: &[
            "manifests: get a Docker image, taking OCI's",
            "manifests: get an index, taking images alone",
        ],
        why: "a manifest comes as it was pushed, whatever a client names: one that cannot use it says so itself (OCI distribution spec, pulling manifests)",
    },
    Reason {
        registries: BOTH,
        aspects: &[],
        steps: &["manifests: get a list, taking images alone"],
        why: "the list has no image for linux/amd64, which old clients would get in its place; so it comes itself (Docker Registry V2, manifest lists)",
    },
    Reason {
        registries: BOTH,
        aspects: &["docker-content-digest", "etag"],
        steps: &["manifests: known already"],
        why: "a 304 says what a 200 would of the version (RFC 9110, section 15.4.5)",
    },
    Reason {
        registries: &["docker-registry"],
        aspects: &[],
        steps: &["manifests: a digest that is none"],
        why: "a digest that cannot be read is the client's mistake: DIGEST_INVALID (OCI distribution spec, code-5)",
    },
    Reason {
        registries: &["docker-registry"],
        aspects: &["status", "body", "link"],
        steps: &[
            "tags: two",
            "tags: the next two",
            "tags: none",
            "tags: fewer than none",
            "tags: a number that is none",
            "tags: after one",
            "tags: after the last",
        ],
        why: "tags come in pages (OCI distribution spec, end-8b), and a number that is none is PAGINATION_NUMBER_INVALID (GitLab's registry)",
    },
    Reason {
        registries: BOTH,
        aspects: &[],
        steps: &["tags: head"],
        why: "HEAD is answered where GET is (RFC 9110, section 9.1)",
    },
    Reason {
        registries: &["docker-registry"],
        aspects: &["body", "link"],
        steps: &["catalog: all", "catalog: the next"],
        why: "a repository is one that has had a manifest; a blob that was mounted makes none",
    },
    Reason {
        registries: BOTH,
        aspects: &["link"],
        steps: &["catalog: one"],
        why: "the last page names no next one (OCI distribution spec, listing tags)",
    },
    Reason {
        registries: BOTH,
        aspects: &[],
        steps: &["catalog: none"],
        why: "a page of no entries leads nowhere: PAGINATION_NUMBER_INVALID (GitLab's registry)",
    },
    Reason {
        registries: &["docker-registry"],
        aspects: &[],
        steps: &["catalog: fewer than none", "catalog: a number that is none"],
        why: "a number that is none is PAGINATION_NUMBER_INVALID (GitLab's registry)",
    },
    Reason {
        registries: BOTH,
        aspects: &[],
        steps: &[
            "referrers: of an image",
            "referrers: of one type",
            "referrers: of what is not there",
            "referrers: of a digest that is none",
        ],
        why: "referrers are listed (OCI distribution spec, end-12)",
    },
    Reason {
        registries: &["docker-registry"],
        aspects: &[],
        steps: &[
            "removal: a tag",
            "removal: a tag that is not there",
            "removal: tags after it",
        ],
        why: "a tag is removed by its name (OCI distribution spec, end-9)",
    },
    Reason {
        registries: BOTH,
        aspects: &["docker-content-digest"],
        steps: &["removal: a blob"],
        why: "the answer names what is removed (Docker Registry V2, deleting a layer)",
    },
];

/// Checks that our answers differ from a registry's where they are meant to,
/// and nowhere else; and that they still do.
pub fn hold(name: &str, theirs: &BTreeMap<String, Answer>, ours: &BTreeMap<String, Answer>) {
    let found = between(theirs, ours);
    let own: Vec<&Reason> = REASONS
        .iter()
        .filter(|reason| reason.registries.contains(&name))
        .collect();
    let reason_of = |difference: &Difference| own.iter().find(|reason| reason.explains(difference));
    let unexplained: Vec<String> = found
        .iter()
        .filter(|difference| reason_of(difference).is_none())
        .map(ToString::to_string)
        .collect();
    assert!(
        unexplained.is_empty(),
        "nobody says why ours differs from {name}:\n{}",
        unexplained.join("\n")
    );
    for reason in &own {
        for step in reason.steps {
            assert!(
                found.iter().any(|difference| reason.fits(difference, step)),
                "{name} differs no more in {step:?}: {}",
                reason.why
            );
        }
    }
    // What exactly differs stands in the snapshot.
    let list: Vec<String> = found
        .iter()
        .map(|difference| {
            format!(
                "{difference}\n    {}",
                reason_of(difference).map_or("", |reason| reason.why)
            )
        })
        .filter(|text| !text.contains("nosniff"))
        .collect();
    insta::assert_snapshot!(format!("differences_from_{}", name.replace(' ', "_")), list.join("\n"));
}
