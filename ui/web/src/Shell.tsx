// The frame of every page: where one is, where one can go, whether the server answers.
import { ActionIcon, useComputedColorScheme, useMantineColorScheme } from "@mantine/core";
import { Link, Outlet, useNavigate, useSearch } from "@tanstack/react-router";
import { useDemo, useFindings } from "./api/queries.ts";
import { FaultPanel } from "./demo/FaultPanel.tsx";
import { Icon } from "./parts/Icon.tsx";
import styles from "./Shell.module.css";

const PAGES = [
  { to: "/", name: "Graph" },
  { to: "/traces", name: "Traces" },
  { to: "/health", name: "Health" },
  { to: "/sql", name: "SQL" },
  { to: "/status", name: "Status" },
] as const;

export function Shell() {
  return (
    <div className={styles.shell}>
      <a className={styles.skip} href="#content">
        Skip to the page
      </a>
      <header className={styles.header}>
        <Link to="/" className={styles.brand} aria-label="Weir, service graph">
          <Logo />
          Weir
        </Link>
        <nav className={styles.nav} aria-label="Pages">
          {PAGES.map((page) => (
            <Link key={page.to} to={page.to} activeOptions={{ exact: page.to === "/", includeSearch: false }}>
              {page.name}
              {page.to === "/health" && <ActiveFindings />}
            </Link>
          ))}
        </nav>
        <span className="grow" />
        <FaultsButton />
        <SchemeButton />
      </header>
      <div className={styles.body}>
        <main id="content" className={styles.main} tabIndex={-1}>
          <Outlet />
        </main>
        <Faults />
      </div>
    </div>
  );
}

/** How many findings are active, beside the word Health. */
function ActiveFindings() {
  const { data } = useFindings("-1h", true);
  const active = data?.findings.length ?? 0;
  if (active === 0) return null;
  return (
    <span className={styles.count}>
      {active}
      <span className="unseen"> active findings</span>
    </span>
  );
}

function FaultsButton() {
  const { data } = useDemo();
  const { faults } = useSearch({ from: "__root__" });
  const navigate = useNavigate();
  if (!data) return null;
  return (
    <button
      type="button"
      className={styles.faults}
      aria-expanded={faults === true}
      aria-controls="faults"
      onClick={() =>
        navigate({ to: ".", search: (before) => ({ ...before, faults: faults ? undefined : true }) })
      }
    >
      <Icon name="fault" />
      <span className={styles.faultsWord}>Faults</span>
      {data.faults.length > 0 && (
        <span className={styles.count}>
          {data.faults.length}
          <span className="unseen"> on</span>
        </span>
      )}
    </button>
  );
}

function Faults() {
  const { data } = useDemo();
  const { faults } = useSearch({ from: "__root__" });
  return data && faults ? <FaultPanel demo={data} /> : null;
}

function SchemeButton() {
  const { setColorScheme } = useMantineColorScheme();
  const scheme = useComputedColorScheme();
  const other = scheme === "dark" ? "light" : "dark";
  return (
    <ActionIcon
      variant="subtle"
      color="gray"
      aria-label={`Use ${other} colours`}
      onClick={() => setColorScheme(other)}
    >
      <Icon name={scheme === "dark" ? "sun" : "moon"} size={16} />
    </ActionIcon>
  );
}

function Logo() {
  return (
    <svg width="22" height="22" viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="7" fill="#0f6674" />
      <path d="M4 11h9c4 0 3 11 8 11h7" fill="none" stroke="#fff" strokeWidth="3" strokeLinecap="round" />
      <path d="M14 26V16" stroke="#8fd3de" strokeWidth="3" strokeLinecap="round" />
    </svg>
  );
}
