"""The console: pages for people who operate EDOW, rendered here and served by the API's application.

Everything that a page shows was read from the store or the transport, at most once a second for all open pages
together, and no faster than the database answers easily. Nothing is fetched from elsewhere, and no script runs from
data: templates escape, and the content security policy allows this server's own files alone.

`edow.console.site` puts it together.
"""
