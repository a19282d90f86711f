// The look that Mantine's components take; colours of our own are in `theme.css`.
import { createTheme } from "@mantine/core";

export const theme = createTheme({
  primaryColor: "river",
  primaryShade: { light: 7, dark: 4 },
  autoContrast: true,
  defaultRadius: "sm",
  fontFamily:
    'system-ui, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", "Liberation Sans", Arial, sans-serif',
  fontFamilyMonospace:
    'ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", "DejaVu Sans Mono", monospace',
  fontSizes: { xs: "0.75rem", sm: "0.8125rem", md: "0.875rem", lg: "1rem", xl: "1.125rem" },
  colors: {
    dark: [
      "#e1eaed",
      "#c3d0d6",
      "#97a9b2",
      "#6d818b",
      "#3d515a",
      "#2c3d45",
      "#1f2c33",
      "#151e23",
      "#111a1e",
      "#0e1518",
    ],
    river: [
      "#e8f5f7",
      "#d3e8ec",
      "#a6d1d9",
      "#78bac6",
      "#5fb4c2",
      "#36909f",
      "#1f7b8a",
      "#0f6674",
      "#0b525e",
      "#073f48",
    ],
  },
});
