"""What several commands do on a store. Only what is called there imports a database's packages."""
