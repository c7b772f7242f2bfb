defmodule MyAppWeb.PageController do
  use Phoenix.Controller, formats: [:html], layouts: [html: MyAppWeb.Layouts]

  def show(conn, _params), do: render(conn, :show)
end
