// Runs beside the peer's own packages: judges reports with npm @tinfoilsh/verifier. JSON on stdin, JSON on stdout.
//
// Input {"package": folder, "reports": [{"name", "report", "vek"} in base64]}; for each report the word of its
// defaults and of an empty policy. Its entry point takes gzipped documents of its own service only, so that the steps
// behind it (parse, chain, signature, validation) are called as it calls them.
import { pathToFileURL } from "node:url";
import { join } from "node:path";

let text = "";
for await (const chunk of process.stdin) text += chunk;
const task = JSON.parse(text);
const load = (name) => import(pathToFileURL(join(task.package, "dist", "sev", name)));
const { Report } = await load("report.js");
const { CertificateChain } = await load("cert-chain.js");
const { verifyAttestation } = await load("verify.js");
const { defaultValidationOptions, validateReport } = await load("validation.js");
const bytes = (base64) => new Uint8Array(Buffer.from(base64, "base64"));

async function word(item, options) {
  try {
    const report = new Report(bytes(item.report));
    const chain = await CertificateChain.fromReport(report, bytes(item.vek));
    if (!(await verifyAttestation(chain, report))) throw new Error("the signature or the chain does not hold");
    validateReport(report, chain, options);
  } catch (error) {
    return `${error.name}: ${error.message}`.slice(0, 200);
  }
  return "accepted";
}

const answers = [];
for (const item of task.reports) {
  answers.push({ name: item.name, default: await word(item, defaultValidationOptions), empty: await word(item, {}) });
}
process.stdout.write(JSON.stringify(answers));
