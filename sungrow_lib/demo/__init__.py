"""Everything on one machine: inverters, edge, server, dashboard, a database and certificates of its own."""
