//! Who may do what.

use crate::rails::identity::Caller;
use crate::registry::token::Scope;

/// Says why a caller gets nothing of what is asked; nothing when that is no
/// reason to refuse. Clients show these words to people.
pub fn denial(caller: Option<&Caller>, wanted: Option<&Scope>) -> Option<String> {
    let Some(caller) = caller else {
        return Some(
            "not logged in; run: kdk login, or log in with a personal access token (kdk token create)".to_owned(),
        );
    };
    // A login asks for nothing.
    let wanted = wanted?;
    let name = &caller.name;
    let may = |action: &str| wanted.actions.iter().any(|asked| asked == action || asked == "*");
    let deed = match wanted.kind.as_str() {
        "repository" if may("push") => "push to",
        "repository" if may("delete") => "delete from",
        "repository" => "pull from",
        _ => return Some(format!("{name} may not use {} {}", wanted.kind, wanted.name)),
    };
    Some(format!(
        "{name} may not {deed} {}; images of {name} are named {name}/…",
        wanted.name
    ))
}

/// Returns what of a scope a caller gets; nothing when it is nothing.
pub fn grant(scope: Scope, caller: Option<&Caller>, public: &[String]) -> Option<Scope> {
    let admin = caller.is_some_and(|caller| caller.admin);
    let all = match scope.kind.as_str() {
        "registry" => admin && matches!(scope.name.as_str(), "catalog" | "statistics"),
        "repository" => {
            admin
                || caller.is_some_and(|caller| {
                    scope
                        .name
                        .strip_prefix(&caller.name)
                        .is_some_and(|rest| rest.starts_with('/'))
                })
        }
        _ => false,
    };
    let readable = scope.kind == "repository" && is_public(&scope.name, public);
    let actions: Vec<String> = scope
        .actions
        .into_iter()
        .filter(|action| all || (readable && action == "pull"))
        .collect();
    (!actions.is_empty()).then_some(Scope { actions, ..scope })
}

fn is_public(name: &str, public: &[String]) -> bool {
    public.iter().any(|pattern| {
        pattern
            .strip_suffix('*')
            .map_or(pattern == name, |prefix| name.starts_with(prefix))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(scope: &str, caller: Option<&Caller>) -> Option<String> {
        grant(scope.parse().expect("a scope"), caller, &["shared/*".to_owned()]).map(|scope| scope.to_string())
    }

    #[test]
    fn users_have_their_namespace_and_public_pulls() {
        let anna = Caller {
            name: "anna".into(),
            admin: false,
        };
        assert_eq!(
            granted("repository:anna/app:pull,push", Some(&anna)).as_deref(),
            Some("repository:anna/app:pull,push")
        );
        assert_eq!(granted("repository:annabel/app:pull,push", Some(&anna)), None);
        assert_eq!(granted("repository:anna:push", Some(&anna)), None);
        assert_eq!(
            granted("repository:shared/base:pull,push", Some(&anna)).as_deref(),
            Some("repository:shared/base:pull")
        );
        assert_eq!(
            granted("repository:shared/base:pull", None).as_deref(),
            Some("repository:shared/base:pull")
        );
        assert_eq!(granted("repository:anna/app:pull", None), None);
        assert_eq!(granted("registry:catalog:*", Some(&anna)), None);
    }

    #[test]
    fn admins_may_do_everything() {
        let root = Caller {
            name: "root".into(),
            admin: true,
        };
        for scope in ["registry:catalog:*", "repository:custom-docker-image:pull,push,delete"] {
            assert_eq!(granted(scope, Some(&root)).as_deref(), Some(scope));
        }
        assert_eq!(granted("registry:other:*", Some(&root)), None);
    }
}
