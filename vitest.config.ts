import { defineConfig } from "vitest/config";

/** Where .ci/run finds the counts. */
const report = process.env.SHIMBED_TEST_REPORT;

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    pool: "forks",
    maxWorkers: 2,
    testTimeout: 90_000,
    hookTimeout: 60_000,
    reporters: report === undefined ? ["default"] : ["dot", ["json", { outputFile: report }]],
  },
});
