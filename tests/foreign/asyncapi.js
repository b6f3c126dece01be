// Parses an AsyncAPI document with AsyncAPI's own parser. Exit 1 for an error; warnings are only printed.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const file = process.argv[2];
const { document, diagnostics } = await new Parser().parse(readFileSync(file, "utf8"), { source: file });

const levels = ["error", "warning", "information", "hint"];
for (const { severity, code, message, range, path } of diagnostics) {
  console.log(`${file}:${range.start.line + 1}: ${levels[severity]}: ${code}: ${message} (${path.join(".")})`);
}
const errors = diagnostics.filter(({ severity }) => severity === 0).length;
if (errors > 0 || document === undefined) {
  console.log(`${errors} errors`);
  process.exit(1);
}
const channels = document.channels().all().length;
const operations = document.operations().all().length;
const messages = document.allMessages().all().length;
if (operations === 0 || messages === 0) {
  console.log("the document was read, but has no operations or no messages");
  process.exit(1);
}
console.log(`${document.version()}: ${channels} channels, ${operations} operations, ${messages} messages; no errors`);
