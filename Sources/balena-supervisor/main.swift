print("balena-supervisor")
