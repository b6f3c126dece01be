// Shows the OpenAPI document in Swagger UI. All addresses are relative: the gateway may be behind a prefix.

const base = new URL("./", location.href);
const spec = await (await fetch(new URL("openapi.json", base))).json();
spec.servers = [{ url: base.href }];
SwaggerUIBundle({ spec, dom_id: "#docs", validatorUrl: null, deepLinking: true, persistAuthorization: false });
