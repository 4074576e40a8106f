//! Making and removing the metadata database.

use super::access::{database_of, runtime};
use super::error::CommandError;
use crate::registry::config::Source;
use crate::registry::metadata::postgres::migrations::{self, SchemaError};
use crate::registry::metadata::postgres::{Database, admin};

/// Database on an own server that others are copied from.
const TEMPLATE: &str = "kdk_registry_template";

/// Makes a configuration's metadata database when it is missing; says whether
/// it was. On a server of one's own a template stays, so that the next one is
/// made quickly. `report` hears what goes on.
///
/// # Errors
/// When the server cannot be reached, or refuses.
pub fn create_database(source: &Source, own_server: bool, report: &dyn Fn(&str)) -> Result<bool, CommandError> {
    let config = database_of(source)?;
    runtime()?.block_on(async {
        if !own_server {
            return Ok(admin::create(&config, None).await?);
        }
        // Copying a database takes a fraction of making the schema.
        let mut template = config.clone();
        template.name = TEMPLATE.to_owned();
        report("making a template of the metadata database");
        admin::create(&template, None).await?;
        {
            let database = Database::with(&template, false)?;
            let mut client = database.client().await?;
            let outcome = migrations::up(&mut client, false, false).await;
            drop(client);
            database.close().await;
            match outcome {
                // Of an earlier version of this program.
                Err(SchemaError::Older(_) | SchemaError::Newer(_)) => return Ok(admin::create(&config, None).await?),
                other => drop(other?),
            }
        }
        report("copying the template to the metadata database");
        Ok(admin::create(&config, Some(TEMPLATE)).await?)
    })
}

/// Says whether the configuration's role may make databases.
///
/// # Errors
/// When the server cannot be reached.
pub fn may_create_database(source: &Source) -> Result<bool, CommandError> {
    let config = database_of(source)?;
    Ok(runtime()?.block_on(admin::may_create(&config))?)
}

/// Removes a configuration's metadata database, with all that is in it; says whether there was one.
///
/// # Errors
/// When the server cannot be reached, or refuses.
pub fn drop_database(source: &Source) -> Result<bool, CommandError> {
    let config = database_of(source)?;
    Ok(runtime()?.block_on(admin::remove(&config))?)
}
